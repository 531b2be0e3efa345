"""The commands of single stages, without a cluster: check, merge, quantize, evaluate.

They do what the jobs do, by the same functions. Must not know how a stage works.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.ending import NO_VERDICT, REJECTED, arguments, note, told
from controller.errors import PermanentError
from controller.job.contract import Scorer, Stage, Use
from controller.job.reasons import Reason

if TYPE_CHECKING:
    from controller.job.contract import Endpoint

AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]
BaseOption = Annotated[Path, typer.Option("--base", help="Directory of the base model.", exists=True, file_okay=False)]


def register(app: typer.Typer) -> None:
    for command in (check, merge, quantize, evaluate):
        app.command()(command)


def check(
    adapter: Annotated[Path, typer.Argument(help="Directory of the adapter.", exists=True, file_okay=False)],
    base: BaseOption,
    max_lora_rank: Annotated[int | None, typer.Option(help="The server's --max-lora-rank.")] = None,
    stage: Annotated[Stage, typer.Option(help="Where the adapter is to be used.")] = Stage.EXPERIMENTAL,
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with an adapter."""
    from controller.job.base import read_base
    from controller.job.check import examine

    with told(as_json):
        report = examine(
            adapter, read_base(base), max_lora_rank, Use.SERVE if stage is Stage.EXPERIMENTAL else Use.MERGE
        )
    found, findings = report.adapter, report.findings
    if as_json:
        rows = [{"reason": str(f.reason), "message": f.message} for f in findings]
        rank = found.rank if found else None
        print(json.dumps({"ok": not rows, "rank": rank, "findings": rows, "notes": list(report.notes)}))
    else:
        for finding in findings:
            note(str(finding))
        for text in report.notes:
            note(f"note: {text}")
        if found is not None and not findings:
            print(f"good: rank {found.rank}, {len(found.modules)} modules")
    raise typer.Exit(REJECTED if findings else 0)


def merge(
    base: BaseOption,
    adapter: Annotated[list[str], typer.Option(help="Directory of an adapter, or DIR=WEIGHT. May be repeated.")],
    out: Annotated[Path, typer.Option(help="Directory to make.")],
    dtype: Annotated[str, typer.Option(help="auto (the base's), bfloat16, float16 or float32.")] = "bfloat16",
    combine: Annotated[str, typer.Option(help="How several adapters are combined: linear.")] = "linear",
) -> None:
    """Merge adapters into a base: exact in float64, rounded once."""
    from controller.cli.display import shown
    from controller.cli.local_merge import merge_directories
    from controller.job.progress import Progress

    with told(), shown(Progress()) as progress:
        if combine != "linear" or dtype not in ("auto", "bfloat16", "float16", "float32"):
            raise PermanentError(f"--combine {combine} --dtype {dtype} is not known", reason=Reason.INVALID_ARGUMENT)
        merge_directories(base, adapter, out, dtype, progress)
    print(out)


def quantize(
    model: Annotated[Path, typer.Option(help="Directory of the model.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Directory to make.")],
    method: Annotated[str, typer.Option(help="AWQ, GPTQ, FP8 or INT8.")] = "AWQ",
    calibration: Annotated[
        Path | None, typer.Option(help="JSONL of messages or texts. FP8 needs none.", exists=True, dir_okay=False)
    ] = None,
    scheme: Annotated[str | None, typer.Option(help="For AWQ and GPTQ: W4A16 or W4A16_ASYM.")] = None,
    group_size: Annotated[
        int | None, typer.Option(help="For AWQ and GPTQ: weights that share a scale, 32, 64 or 128.")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Samples used; default: 256.")] = None,
    sequence_length: Annotated[int | None, typer.Option(help="Longest sample, in tokens; default: 2048.")] = None,
) -> None:
    """Quantize a model."""
    from controller.cli.display import shown
    from controller.cli.local_build import Chosen
    from controller.cli.local_quantize import quantize_directory
    from controller.cli.output import made
    from controller.job.progress import Progress

    chosen = Chosen(method, scheme, group_size, calibration, samples, sequence_length)
    with told(), shown(Progress()) as progress, made(out) as partial:
        quantize_directory(model, partial, chosen, progress)
    print(out)


def evaluate(
    suite: Annotated[list[Path], typer.Option(help="JSONL of messages and expected.", exists=True, dir_okay=False)],
    candidate: Annotated[str, typer.Option(help="URL#MODEL of what is to serve.")],
    reference: Annotated[
        str | None, typer.Option(help="URL#MODEL of what serves now; without it --min-score alone judges.")
    ] = None,
    scorer: Annotated[Scorer, typer.Option(help="ExactMatch or Contains.")] = Scorer.CONTAINS,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    max_score_drop: Annotated[str, typer.Option(help="Largest drop that passes.")] = "0.01",
    min_score: Annotated[str | None, typer.Option(help="Lowest score that passes.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight in the benchmark.")] = 8,
    requests: Annotated[int, typer.Option(help="Requests to each in the benchmark.")] = 64,
    api_key_file: Annotated[Path | None, typer.Option(help="File with the servers' key.")] = None,
    artifact: Annotated[
        Path | None,
        typer.Option(help="What the candidate serves, STORE/artifacts/HEX: keep the scores beside it."),
    ] = None,
    without_examples: Annotated[
        bool, typer.Option("--without-examples", help="With --artifact: keep no words of the suite, only counts.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score and time two endpoints side by side, or one alone, and judge.

    Exit code 0: pass; 1: fail; 2: refused; 3: no verdict, or an endpoint that does not answer.
    """
    from controller.cli.scores import limits, report, verdict
    from controller.domain.checks import lacks_to_judge_alone
    from controller.job.contract import Benchmark, EvaluateContract, Release, Source, Suite
    from controller.job.evaluate import run_evaluate
    from controller.job.progress import Progress
    from controller.job.statement import kept_beside, statement_path
    from controller.job.store import Store

    with told(as_json, failed=NO_VERDICT):
        names = [f"suite-{number}" for number, _ in enumerate(suite, 1)]
        validation = limits(names, max_score_drop, min_score)
        if reference is None and (lacking := lacks_to_judge_alone(validation)):
            raise PermanentError(f"--min-score: {lacking}", reason=Reason.INVALID_ARGUMENT)
        with arguments():
            suites = tuple(
                Suite(
                    name=name,
                    source=Source(path=str(path.resolve()), root=str(path.resolve().parent)),
                    scorer=scorer,
                    max_tokens=max_tokens,
                )
                for name, path in zip(names, suite, strict=True)
            )
            contract = EvaluateContract(
                release=Release(namespace="local", name="evaluate"),
                reference=_endpoint("--reference", reference) if reference else None,
                candidate=_endpoint("--candidate", candidate),
                api_key_file=str(api_key_file) if api_key_file else None,
                suites=suites,
                benchmark=Benchmark(concurrency=concurrency, requests=requests),
                examples="None" if without_examples else "Changed",
            )
        if artifact is not None:
            contract = kept_beside(artifact, contract)
        result = run_evaluate(contract, Progress())
        if contract.store is not None and contract.artifact is not None:
            note(f"scores: {statement_path(Store(Path(contract.store)), contract.artifact)}")
    judgement = verdict(validation, result, alone=reference is None)
    print(report(result, judgement, as_json))
    raise typer.Exit({"Pass": 0, "Fail": 1}.get(judgement.verdict, NO_VERDICT))


def _endpoint(option: str, argument: str) -> Endpoint:
    from controller.job.contract import Endpoint

    url, _, model = argument.partition("#")
    try:
        return Endpoint(url=url, model=model)
    except ValueError as e:
        raise PermanentError(f"{option} {argument!r}: give URL#MODEL", reason=Reason.INVALID_ARGUMENT) from e
