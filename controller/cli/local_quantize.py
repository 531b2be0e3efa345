"""`adapterrelease quantize`: what the build job does after the merge, with a model in a directory.

Must not know how a method works.
"""

from __future__ import annotations

from pathlib import Path

from controller.cli.local_build import Chosen
from controller.errors import PermanentError
from controller.job.base import read_base
from controller.job.calibration import read_samples
from controller.job.merged_model import from_directory
from controller.job.preflight import shapes_fit
from controller.job.progress import Progress
from controller.job.quantize import prepared, quantize
from controller.job.reasons import Reason
from controller.job.store import remove_directory


def quantize_directory(model: Path, out: Path, chosen: Chosen, progress: Progress) -> None:
    """Writes `model`, quantized as it was chosen, to `out`; what was there before is removed."""
    spec = chosen.contract()
    if spec is None:
        raise PermanentError("--method None leaves nothing to do", reason=Reason.INVALID_ARGUMENT)
    shapes_fit(read_base(model), spec)
    data = chosen.calibration
    samples = read_samples(data, spec.calibration.samples) if data is not None and spec.calibration is not None else []
    progress.stage("calibration", unit="items")
    rows = prepared(model, spec, samples)
    remove_directory(out)
    quantize(lambda: from_directory(model), model, out, spec, rows, progress)
