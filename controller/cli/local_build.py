"""`adapterrelease build`: what the import and build jobs of a release do, on this machine.

Must not know how a stage works; it only writes the contracts that the controller would write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from controller.api import v1alpha1 as api
from controller.errors import PermanentError
from controller.job.build import run_build
from controller.job.contract import (
    AdapterInput,
    AdapterSource,
    BaseReference,
    BuildContract,
    Calibration,
    ImportContract,
    MergeSpec,
    Quantization,
    Release,
    Source,
    Use,
)
from controller.job.importer import run_import
from controller.job.progress import Progress
from controller.job.reasons import Reason
from controller.job.summary import BuildResult


def build_release(
    path: Path, base: Path, out: Path, volumes: Sequence[str], secrets: Sequence[str], max_lora_rank: int
) -> BuildResult:
    """Imports the release's adapters into the store `out` and builds its artifact there."""
    release, build = _read(path)
    owner = Release(namespace=release.metadata.namespace, name=release.metadata.name)
    reference = BaseReference(model=str(base), name=release.spec.base_ref.name)
    where = _Places(_pairs(volumes), _pairs(secrets))
    progress = Progress()
    out.mkdir(parents=True, exist_ok=True)
    inputs = []
    for adapter in release.spec.adapters:
        source = AdapterSource(
            name=adapter.name,
            version=adapter.version,
            digest=adapter.digest,
            training_run=adapter.training_run,
            source=where.source(adapter.source),
        )
        result = run_import(
            ImportContract(
                release=owner,
                store=str(out),
                adapter=source,
                base=reference,
                max_lora_rank=max_lora_rank,
                use=Use.MERGE,  # nothing here serves the adapter
            ),
            progress,
        )
        inputs.append(
            AdapterInput(
                name=source.name,
                version=source.version,
                digest=result.digest,
                path=result.path,
                training_run=source.training_run,
            )
        )
    return run_build(
        BuildContract(
            release=owner,
            store=str(out),
            base=reference,
            adapters=tuple(inputs),
            merge=MergeSpec.model_validate(build.merge.to_wire()),
            quantization=where.quantization(build.quantization),
        ),
        progress,
    )


def _read(path: Path) -> tuple[api.AdapterRelease, api.Build]:
    try:
        release = api.AdapterRelease.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError, ValueError) as e:
        raise PermanentError(f"{path} is no AdapterRelease: {e}", reason=Reason.INVALID_RELEASE) from e
    if release.spec.build is None:
        raise PermanentError(f"{path} has no spec.build: nothing to build", reason=Reason.INVALID_RELEASE)
    return release, release.spec.build


class _Places:
    """Where claims and Secrets of the cluster lie on this machine."""

    def __init__(self, volumes: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self._volumes, self._secrets = volumes, secrets

    def source(self, source: api.Source) -> Source:
        if source.uri.startswith("https://"):
            name = source.secret_ref.name if source.secret_ref is not None else None
            return Source(url=source.uri, credentials=self._secrets.get(name) if name else None)
        claim, _, rest = source.uri.removeprefix("pvc://").partition("/")
        if claim not in self._volumes:
            raise PermanentError(f"{source.uri}: say where it is, --volume {claim}=DIR", reason=Reason.INVALID_ARGUMENT)
        return Source(path=str(Path(self._volumes[claim]) / rest), root=self._volumes[claim])

    def quantization(self, spec: api.Quantization) -> Quantization | None:
        if spec.method is not api.QuantizationMethod.AWQ or spec.calibration is None:
            return None
        source = self.source(spec.calibration.source)
        return Quantization.model_validate(
            {
                "method": "AWQ",
                "scheme": spec.scheme,
                "group_size": spec.group_size,
                "calibration": Calibration(
                    **source.model_dump(),
                    samples=spec.calibration.samples,
                    sequence_length=spec.calibration.sequence_length,
                ),
            }
        )


def _pairs(arguments: Sequence[str]) -> dict[str, str]:
    pairs = dict(a.partition("=")[::2] for a in arguments)
    if bad := [a for a in arguments if "=" not in a]:
        raise PermanentError(f"{bad[0]!r}: give NAME=DIR", reason=Reason.INVALID_ARGUMENT)
    return pairs
