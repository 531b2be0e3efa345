"""make demo: the life of a release on a real Kubernetes with a real vLLM, on this one machine.

    python -m sandbox.demo [--context NAME]

Without --context it makes the sandbox cluster (and only ever touches that one). With it, it uses a cluster that you
name; what that must have is in sandbox/README.md, "A cluster of yours".
"""

from __future__ import annotations

import argparse
import signal
import sys
import time

from sandbox.demo.life import Life
from sandbox.demo.narrator import DemoFailed
from sandbox.demo.prepare import prepare


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--context", default="", help="use this kube-context instead of making a cluster")
    options = parser.parse_args()
    try:
        return demo(options.context)
    except DemoFailed as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def demo(context: str) -> int:
    began = time.monotonic()
    narrator = prepare(context)
    life = Life(narrator)
    with narrator.farewell_if_cut_short():
        life.play()
        broken = life.judge()
    print("\n== What it brought")
    narrator.table([(key, str(value)) for key, value in life.results.items()])
    print("\n== How long each step took")
    narrator.table([(title, f"{seconds:.1f} s") for title, seconds in narrator.times])
    print(f"\n   all of it: {time.monotonic() - began:.0f} s")
    for promise in broken:
        print(f"   NOT KEPT: {promise}", file=sys.stderr)
    narrator.farewell()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
