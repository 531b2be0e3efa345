"""Run clients under events and write the table.

    python -m bench.no_request_lost [--events update swap ...] [--clients new stream ...] [--requests 2000]

Makes a sandbox cluster (or uses TEST_NODE_KUBECONFIG), and takes it down. The table goes between the markers of
docs/no-request-lost.md (--out), everything else into the directory --raw: marks and records of each event, which
`--judge-again DIRECTORY` reads instead of running anything. Exit code: 0, or 1 when a row is not met.
"""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from bench.no_request_lost.events import EVENTS
from bench.no_request_lost.raw import Raw, read_raw, write_raw
from bench.no_request_lost.report import as_json, failures, ill_lines, table, timing_table, write_between_markers
from bench.no_request_lost.run import Run
from bench.no_request_lost.traffic import CLIENTS

FAILING = "failing-check"  # what its clients see is not held against it
OUT = Path(__file__).resolve().parents[2] / "docs" / "no-request-lost.md"


def main() -> int:
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):  # both end a run with what it has seen; a shell's `&` ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    raws = read_raw(options.judge_again) if options.judge_again else _run(options)
    return _report(raws, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.no_request_lost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", nargs="+", choices=EVENTS, default=list(EVENTS))
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--requests", type=int, default=2000, help="of each client in each row")
    parser.add_argument("--faster", type=float, default=1.0, help="times the rates of all clients")
    parser.add_argument("--stream-tokens", type=int, default=60)
    parser.add_argument("--raw", type=Path, default=Path("build/no-request-lost"), help="where the evidence goes")
    parser.add_argument("--judge-again", type=Path, metavar="DIRECTORY")
    parser.add_argument("--out", type=Path, default=OUT, help="'-' writes no table")
    return parser.parse_args()


def _run(options: argparse.Namespace) -> list[Raw]:
    clients = [replace(CLIENTS[name], rate=CLIENTS[name].rate * options.faster) for name in options.clients]
    raws = []
    with Run(clients, options.requests, options.stream_tokens) as run:
        for name in options.events:
            began = time.monotonic()
            print(f"{name} ...", flush=True)
            raws.append(run.event(EVENTS[name]))
            write_raw(options.raw, raws[-1])
            print(f"{name}: {len(raws[-1].records)} requests in {time.monotonic() - began:.0f} s", flush=True)
            _say(raws[-1], options.requests)
            if run.interrupted:
                break
    return raws


def _say(raw: Raw, wanted: int) -> None:
    if raw.event == FAILING:
        print(ill_lines(raw.ills()), raw.trouble, sep="\n\n", flush=True)
        return
    rows = raw.rows()
    print(table(rows, wanted), timing_table(raw.timings()), sep="\n\n")
    for row in rows:
        if row.troubles:
            print(failures(row, raw.timeline.marks))
    if raw.trouble:
        print(f"{raw.event} did not end as it should: {raw.trouble}")
    sys.stdout.flush()


def _report(raws: list[Raw], options: argparse.Namespace) -> int:
    checks = [ill for raw in raws if raw.event == FAILING for ill in raw.ills()]
    events = [raw for raw in raws if raw.event != FAILING]
    rows = [row for raw in events for row in raw.rows()]
    found = [t for raw in events for t in raw.timings()]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    troubles = [f"{raw.event} did not end as it should: {raw.trouble.splitlines()[0]}" for raw in raws if raw.trouble]
    head = f"Made {now}; at least {options.requests} requests for each row were asked for."
    text = "\n\n".join([head, table(rows, options.requests), timing_table(found), ill_lines(checks), *troubles])
    told = {"made": now, "troubles": troubles, "failing checks": [asdict(ill) for ill in checks]}
    evidence: Path = options.judge_again or options.raw
    (evidence / "rows.json").write_text(as_json(rows, found, options.requests, told))
    if str(options.out) != "-":
        write_between_markers(options.out, text)
    print(text)
    return 0 if not troubles and all(row.passes(options.requests) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
