"""`adapterrelease quantize`: what the build job does after the merge, with a model in a directory.

Must not know how a method works.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.errors import PermanentError
from controller.job.base import read_base
from controller.job.calibration import read_samples
from controller.job.contract import Quantization
from controller.job.findings import some
from controller.job.linears import unfit
from controller.job.merged_model import from_directory
from controller.job.progress import Progress
from controller.job.quantize import prepared, quantize
from controller.job.reasons import Reason
from controller.job.store import remove_directory


def quantize_directory(model: Path, out: Path, asked: Mapping[str, Any]) -> None:
    """Writes `model`, quantized as `asked`, to `out`; what was there before is removed."""
    spec = _quantization(asked)
    if bad := unfit(read_base(model), spec):
        raise PermanentError(
            f"group size {spec.group_size} does not divide {some(bad)}", reason=Reason.INVALID_GROUP_SIZE
        )
    wanted = spec.calibration
    samples = read_samples(Path(str(wanted.path)), wanted.samples) if wanted is not None else []
    rows = prepared(model, spec, samples)
    remove_directory(out)
    quantize(lambda: from_directory(model), model, out, spec, rows, Progress())


def _quantization(asked: Mapping[str, Any]) -> Quantization:
    try:
        return Quantization.model_validate(asked)
    except ValidationError as e:
        problems = "; ".join(f"{'.'.join(map(str, x['loc']))} {x['msg']}".strip() for x in e.errors())
        raise PermanentError(problems, reason=Reason.INVALID_ARGUMENT) from e
