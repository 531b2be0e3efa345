"""`adapterrelease build`: from an adapter to a verified artifact, without a cluster.

Must not know how a stage works.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.artifacts import AsJson, signed, verified_or_rejected
from controller.cli.display import shown, size
from controller.cli.ending import option, told
from controller.errors import PermanentError
from controller.job.reasons import Reason
from controller.job.signing import signature_beside

if TYPE_CHECKING:
    from controller.job.provenance import ArtifactStatement
    from controller.job.summary import BuildResult


_OF_ADAPTER = (
    *("name", "version", "training_run", "dtype"),
    *("method", "scheme", "group_size", "calibration", "samples", "sequence_length"),
)
_OF_RELEASE = ("volume", "secret")


def register(app: typer.Typer) -> None:
    app.command()(build)


def build(
    context: typer.Context,
    base: Annotated[Path, typer.Option(help="Directory of the base model.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="The store: adapters/ and artifacts/ are made in it.")],
    release: Annotated[
        Path | None, typer.Option("-f", "--filename", help="An AdapterRelease, as YAML: build what it asks for.")
    ] = None,
    volume: Annotated[
        list[str] | None, typer.Option(help="With -f: CLAIM=DIR for pvc:// sources. May be repeated.")
    ] = None,
    secret: Annotated[list[str] | None, typer.Option(help="With -f: NAME=DIR for secretRef. May be repeated.")] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="Without -f: directory of the adapter.", exists=True, file_okay=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="With --adapter: its name; default: the directory's.")] = None,
    version: Annotated[str | None, typer.Option(help="With --adapter: its version; default: of its digest.")] = None,
    training_run: Annotated[str | None, typer.Option(help="With --adapter: where it comes from, for the card.")] = None,
    dtype: Annotated[str, typer.Option(help="With --adapter: auto, bfloat16, float16 or float32.")] = "bfloat16",
    method: Annotated[
        str, typer.Option(help="With --adapter: AWQ, GPTQ, FP8, INT8, or None: merged and not quantized.")
    ] = "None",
    scheme: Annotated[str | None, typer.Option(help="With --method: which sort of it; default: its usual.")] = None,
    group_size: Annotated[
        int | None, typer.Option(help="With AWQ and GPTQ: weights that share a scale, 32, 64 or 128.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="With --method: JSONL of messages or texts.", exists=True, dir_okay=False)
    ] = None,
    samples: Annotated[int | None, typer.Option(help="With --calibration: how many samples are used.")] = None,
    sequence_length: Annotated[int | None, typer.Option(help="With --calibration: their tokens, at most.")] = None,
    sign_key: Annotated[
        Path | None, typer.Option(help="Sign the artifact: a private key in PEM.", exists=True, dir_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check, merge, quantize, publish and verify: one artifact, without a cluster."""
    from controller.cli.local_build import Asked, Chosen, build_adapter, build_release
    from controller.job.progress import Progress
    from controller.job.verify import Wanted

    with told(as_json):
        if (release is None) == (adapter is None):
            raise PermanentError("give either -f RELEASE or --adapter DIR", reason=Reason.INVALID_ARGUMENT)
        _refuse_what_is_ignored(context, *((_OF_ADAPTER, "--adapter") if release is not None else (_OF_RELEASE, "-f")))
        out = out.resolve()
        with shown(Progress()) as progress:
            if release is not None:
                result = build_release(release, base, out, volume or [], secret or [], progress)
            elif adapter is not None:
                chosen = Chosen(method, scheme, group_size, calibration, samples, sequence_length)
                asked = Asked(adapter, name, version, training_run, dtype, chosen)
                result = build_adapter(asked, base, out, progress)
        found = verified_or_rejected(Path(result.path), Wanted(result.artifact_id))
        if sign_key is not None:
            signed(Path(result.path), sign_key, signature_beside(Path(result.path)))
    print(result.to_json() if as_json else summary(result, found))


def _refuse_what_is_ignored(context: typer.Context, parameters: Sequence[str], belongs_to: str) -> None:
    sources = {name: context.get_parameter_source(name) for name in parameters}
    given = [option(name) for name, source in sources.items() if source and source.name != "DEFAULT"]
    if given:
        raise PermanentError(f"{', '.join(given)} goes with {belongs_to} only", reason=Reason.INVALID_ARGUMENT)


def summary(result: BuildResult, found: ArtifactStatement) -> str:
    """What was made, where it is, and what to do with it."""
    base = found.measured.get("sizeBytes", {}).get("base")
    before = f", {found.size_bytes / base:.0%} of the base's {size(base)}" if base else ""
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items())
    path = shlex.quote(result.path)
    lines = [
        ("artifact", result.name),
        ("id", result.artifact_id),
        ("digest", result.digest),
        ("where", result.path),
        ("size", f"{size(found.size_bytes)}{before}"),
        ("quantized", result.provenance.quantization or "no"),
        ("took", f"nothing: the same inputs had been built before ({stages})" if result.reused else stages),
        ("verified", f"{len(found.files)} files, every digest"),
        ("serve it", f"vllm serve {path} --served-model-name {result.name}"),
        ("check it", f"adapterrelease verify {path}"),
        ("its card", f"adapterrelease card {path}"),
    ]
    return "\n".join(f"{what:<10} {text}" for what, text in lines)
