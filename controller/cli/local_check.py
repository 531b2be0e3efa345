"""What the import and build jobs would refuse of a release, looked at on this machine before any of them runs.

Must not know how a check works, or how a release is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.api import v1alpha1 as api
from controller.cli.local_build import Places
from controller.domain.checks import lacks_to_judge_alone
from controller.errors import PermanentError
from controller.job.base import Base, read_base
from controller.job.check import Report, examine
from controller.job.contract import Use
from controller.job.preflight import shapes_fit
from controller.job.reasons import Reason
from controller.job.suite import read_suite


@dataclass(frozen=True)
class Found:
    """`reason` and `message` of what is refused; a note has no reason."""

    message: str
    reason: str = ""


def check_release(
    release: api.AdapterRelease, base: Path, volumes: Mapping[str, str], max_lora_rank: int | None
) -> list[Found]:
    """Of all that the volumes show."""
    return [*_look(release, read_base(base), Places(volumes, {}), max_lora_rank)]


def _look(release: api.AdapterRelease, base: Base, places: Places, max_lora_rank: int | None) -> Iterator[Found]:
    spec = release.spec
    yield from _of_build(spec.build, base, places)
    report: Report | None = None
    for adapter in spec.adapters:
        path = _local(places, adapter.source)
        if isinstance(path, Found):
            yield path
            continue
        use = Use.SERVE if spec.stage is api.Stage.EXPERIMENTAL else Use.EITHER
        report = examine(path, base, max_lora_rank, use)
        yield from (Found(f"adapter {adapter.name}: {f.message}", str(f.reason)) for f in report.findings)
        yield from (Found(f"adapter {adapter.name}: {text}") for text in report.notes)
    if spec.validation is not None:
        yield from _of_validation(spec.validation, report, places)


def _of_build(build: api.Build | None, base: Base, places: Places) -> Iterator[Found]:
    if build is None:
        return
    if base.config.get("quantization_config"):
        message = "the base is quantized: merge into its unquantized form, the result is quantized afterwards"
        yield Found(message, str(Reason.INVALID_BASE))
    calibration = build.quantization.calibration
    if calibration is not None:
        path = _local(places, calibration.source)
        if isinstance(path, Found):
            yield path
            return
    try:
        quantization = places.quantization(build.quantization)
        if quantization is not None:
            shapes_fit(base, quantization)
    except PermanentError as error:
        yield Found(error.message, error.reason)


def _of_validation(validation: api.Validation, report: Report | None, places: Places) -> Iterator[Found]:
    if report is not None and report.merge_only and (lacking := lacks_to_judge_alone(validation)):
        yield Found(f"{'; '.join(report.merge_only)}: {lacking}", "NothingToCompareWith")
    for suite in validation.suites:
        path = _local(places, suite.source)
        if isinstance(path, Found):
            yield path
            continue
        try:
            read_suite(path, suite.name)
        except PermanentError as error:
            yield Found(error.message, error.reason)


def _local(places: Places, source: api.Source) -> Path | Found:
    """Where the source is here; a note where nobody said so, a refusal where there is nothing."""
    if source.uri.startswith("https://"):
        return Found(f"{source.uri} was not looked at: it is fetched by the job")
    claim = source.uri.removeprefix("pvc://").partition("/")[0]
    if not places.knows(claim):
        return Found(f"{source.uri} was not looked at: say where it is, --volume {claim}=DIR")
    path = Path(str(places.source(source).path))
    if not path.exists():
        return Found(f"{source.uri}: there is nothing at {path}", str(Reason.SOURCE_NOT_FOUND))
    return path
