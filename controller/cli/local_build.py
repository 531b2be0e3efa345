"""What the import and build jobs of a release do, on this machine; of a release in a file, or of an adapter as it is.

Must not know how a stage works; it only writes the contracts that the controller would write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from controller.api import v1alpha1 as api
from controller.cli.ending import arguments, option
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


@dataclass(frozen=True)
class Chosen:
    """A quantization as arguments say it. What is None is the contract's default for the method."""

    method: str = "None"
    scheme: str | None = None
    group_size: int | None = None
    calibration: Path | None = None
    samples: int | None = None
    sequence_length: int | None = None

    def contract(self) -> Quantization | None:
        kind = _without_none(scheme=self.scheme, group_size=self.group_size)
        counts = _without_none(samples=self.samples, sequence_length=self.sequence_length)
        data = _without_none(calibration=self.calibration)
        if self.method == "None":
            _need(kind | data | counts, "a --method")
            return None
        if self.calibration is None:
            _need(counts, "--calibration")
        with arguments():
            if self.calibration is not None:
                path = self.calibration.resolve()
                data = {"calibration": Calibration(path=str(path), root=str(path.parent), **counts)}
            return Quantization.model_validate({"method": self.method, **kind, **data})


def _without_none(**given: Any) -> dict[str, Any]:
    return {k: v for k, v in given.items() if v is not None}


def _need(given: Mapping[str, Any], what: str) -> None:
    """Raises PermanentError for arguments that would otherwise be ignored."""
    if given:
        raise PermanentError(f"{', '.join(map(option, given))} needs {what}", reason=Reason.INVALID_ARGUMENT)


@dataclass(frozen=True)
class Asked:
    """An adapter in a directory, and what is to be made of it."""

    adapter: Path
    name: str | None = None
    version: str | None = None
    training_run: str | None = None
    dtype: str = "bfloat16"
    quantization: Chosen = Chosen()


_ANY_RANK = 1 << 16  # a merge has no limit, and nothing here serves the adapter


def build_release(
    path: Path,
    base: Path,
    out: Path,
    volumes: Sequence[str],
    secrets: Sequence[str],
    progress: Progress,
) -> BuildResult:
    """Imports the adapters of the release in `path` into the store `out`, and builds its artifact there."""
    release, build = _read(path)
    where = Places(pairs(volumes), pairs(secrets))
    here = _Here(
        Release(namespace=release.metadata.namespace, name=release.metadata.name),
        BaseReference(model=str(base), name=release.spec.base_ref.name),
        out,
        progress,
    )
    sources = [
        AdapterSource(
            name=adapter.name,
            version=adapter.version,
            digest=adapter.digest,
            training_run=adapter.training_run,
            source=where.source(adapter.source),
        )
        for adapter in release.spec.adapters
    ]
    quantization = where.quantization(build.quantization)
    return here.build(
        [here.imported(s) for s in sources], MergeSpec.model_validate(build.merge.to_wire()), quantization
    )


def build_adapter(asked: Asked, base: Path, out: Path, progress: Progress) -> BuildResult:
    """Imports the adapter into the store `out`, and builds its artifact there. Its version: by default its digest."""
    adapter, quantization = asked.adapter.resolve(), asked.quantization.contract()
    with arguments():
        source = AdapterSource(
            name=asked.name or _named_after(adapter),
            version=asked.version or "local",
            training_run=asked.training_run,
            source=Source(path=str(adapter), root=str(adapter)),
        )
        merge = MergeSpec.model_validate({"dtype": asked.dtype})
    here = _Here(
        Release(namespace="local", name=source.name),
        BaseReference(model=str(base.resolve()), name=_named_after(base.resolve())),
        out,
        progress,
    )
    imported = here.imported(source)
    if asked.version is None:
        imported = imported.model_copy(update={"version": imported.digest.removeprefix("sha256:")[:8]})
    return here.build([imported], merge, quantization)


@dataclass(frozen=True)
class _Here:
    """The jobs of one release, run one after the other in this process."""

    release: Release
    base: BaseReference
    store: Path
    progress: Progress

    def imported(self, source: AdapterSource) -> AdapterInput:
        self.store.mkdir(parents=True, exist_ok=True)
        result = run_import(
            ImportContract(
                release=self.release,
                store=str(self.store),
                adapter=source,
                base=self.base,
                max_lora_rank=_ANY_RANK,
                use=Use.MERGE,
            ),
            self.progress,
        )
        return AdapterInput(
            name=source.name,
            version=source.version,
            digest=result.digest,
            path=result.path,
            training_run=source.training_run,
        )

    def build(
        self, adapters: Sequence[AdapterInput], merge: MergeSpec, quantization: Quantization | None
    ) -> BuildResult:
        return run_build(
            BuildContract(
                release=self.release,
                store=str(self.store),
                base=self.base,
                adapters=tuple(adapters),
                merge=merge,
                quantization=quantization,
            ),
            self.progress,
        )


def _named_after(directory: Path) -> str:
    """A name that a directory of the store may have."""
    name = re.sub(r"[^a-z0-9.-]+", "-", directory.name.lower()).strip("-.")[:63].strip("-.")
    return name or "model"


def _read(path: Path) -> tuple[api.AdapterRelease, api.Build]:
    try:
        release = api.AdapterRelease.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError, ValueError) as e:
        raise PermanentError(f"{path} is no AdapterRelease: {e}", reason=Reason.INVALID_RELEASE) from e
    if release.spec.build is None:
        raise PermanentError(f"{path} has no spec.build: nothing to build", reason=Reason.INVALID_RELEASE)
    return release, release.spec.build


class Places:
    """Where claims and Secrets of the cluster lie on this machine."""

    def __init__(self, volumes: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self._volumes, self._secrets = volumes, secrets

    def knows(self, claim: str) -> bool:
        return claim in self._volumes

    def source(self, source: api.Source) -> Source:
        if source.uri.startswith("https://"):
            name = source.secret_ref.name if source.secret_ref is not None else None
            return Source(url=source.uri, credentials=self._secrets.get(name) if name else None)
        claim, _, rest = source.uri.removeprefix("pvc://").partition("/")
        if claim not in self._volumes:
            raise PermanentError(f"{source.uri}: say where it is, --volume {claim}=DIR", reason=Reason.INVALID_ARGUMENT)
        return Source(path=str(Path(self._volumes[claim]) / rest), root=self._volumes[claim])

    def quantization(self, spec: api.Quantization) -> Quantization | None:
        if spec.method is api.QuantizationMethod.NONE:
            return None
        calibration = spec.calibration
        given = {
            "method": spec.method.value,
            "scheme": spec.scheme,
            "group_size": spec.group_size,
            "calibration": {
                **self.source(calibration.source).model_dump(),
                "samples": calibration.samples,
                "sequence_length": calibration.sequence_length,
            }
            if calibration is not None
            else None,
        }
        try:  # the API server holds these rules against a manifest; nobody has done so with this file
            return Quantization.model_validate(given)
        except ValidationError as e:
            raise PermanentError(
                f"spec.build.quantization: {e.errors()[0]['msg']}", reason=Reason.INVALID_RELEASE
            ) from e


def pairs(arguments: Sequence[str]) -> dict[str, str]:
    pairs = dict(a.partition("=")[::2] for a in arguments)
    if bad := [a for a in arguments if "=" not in a]:
        raise PermanentError(f"{bad[0]!r}: give NAME=DIR", reason=Reason.INVALID_ARGUMENT)
    return pairs
