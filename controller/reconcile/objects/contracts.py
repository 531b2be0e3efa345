"""What each job is told: contracts out of a snapshot, with every path as the job's pod will see it."""

from __future__ import annotations

from controller.api import v1alpha1 as api
from controller.api.status import Backend
from controller.domain.backends import adapter_backend, artifact_backend
from controller.domain.snapshot import BaseFacts, JobKind, Snapshot
from controller.job import contract
from controller.reconcile.arguments import arguments_of
from controller.reconcile.base import container_in
from controller.reconcile.objects.metadata import adapter_service_name, preview_service_name
from controller.reconcile.objects.mounts import credentials_path, source_path

AnyContract = contract.ImportContract | contract.BuildContract | contract.EvaluateContract


def contract_for(
    kind: JobKind,
    inputs: str,
    snapshot: Snapshot,
    base: BaseFacts,
    examples: contract.KeepExamples = "Changed",
) -> AnyContract:
    """`inputs` is the job's key.

    Raises ValueError when the snapshot lacks what the job works on (no adapter imported, no build in the spec).
    """
    if kind is JobKind.IMPORT:
        return _import(snapshot, base)
    return _build(snapshot, base) if kind is JobKind.BUILD else _evaluate(inputs, snapshot, base, examples)


def _import(snapshot: Snapshot, base: BaseFacts) -> contract.ImportContract:
    release = snapshot.release
    adapter = release.spec.adapters[0]
    return contract.ImportContract(
        release=_release(snapshot),
        store=base.store_path,
        adapter=contract.AdapterSource(
            name=adapter.name,
            version=adapter.version,
            digest=adapter.digest,
            training_run=adapter.training_run,
            source=_source(adapter.source, base),
        ),
        base=_base(base),
        max_lora_rank=base.max_lora_rank,
    )


def _build(snapshot: Snapshot, base: BaseFacts) -> contract.BuildContract:
    release = snapshot.release
    build, imported = release.spec.build, release.status.adapter
    if build is None or imported is None:
        raise ValueError("a build needs spec.build and an imported adapter")
    name = release.spec.adapters[0].name
    return contract.BuildContract(
        release=_release(snapshot),
        store=base.store_path,
        base=_base(base),
        adapters=(
            contract.AdapterInput(
                name=name,
                version=imported.version,
                digest=imported.digest,
                path=base.adapter_path(name, imported.digest),
                training_run=imported.training_run or None,
            ),
        ),
        merge=contract.MergeSpec.model_validate(build.merge.model_dump()),
        quantization=_quantization(build.quantization, base),
    )


def _evaluate(
    inputs: str, snapshot: Snapshot, base: BaseFacts, examples: contract.KeepExamples
) -> contract.EvaluateContract:
    release = snapshot.release
    validation, artifact = release.spec.validation, release.status.artifact
    if validation is None or artifact is None:
        raise ValueError("a validation needs spec.validation and a built artifact")
    secret = base.api_key_secret
    return contract.EvaluateContract(
        release=_release(snapshot),
        store=base.store_path,
        artifact=contract.EvaluatedArtifact(
            id=artifact.id, digest=artifact.digest, adapter_digest=artifact.adapter_digest, inputs=inputs
        ),
        reference=None if artifact.merge_only else _reference(snapshot, artifact.adapter_digest),
        candidate=_endpoint(preview_service_name(release), snapshot, artifact_backend(artifact.id)),
        api_key_file=f"{credentials_path(secret[0])}/{secret[1]}" if secret else None,
        suites=tuple(
            contract.Suite(
                name=suite.name,
                source=_source(suite.source, base),
                scorer=contract.Scorer(suite.scorer.value),
                max_tokens=suite.max_tokens,
            )
            for suite in validation.suites
        ),
        benchmark=contract.Benchmark(
            concurrency=validation.benchmark.concurrency, requests=validation.benchmark.requests
        ),
        examples=examples,
    )


def _quantization(wanted: api.Quantization, base: BaseFacts) -> contract.Quantization | None:
    if wanted.method is api.QuantizationMethod.NONE:
        return None
    calibration = wanted.calibration
    return contract.Quantization.model_validate(
        {
            "method": wanted.method.value,
            "scheme": wanted.scheme,
            "group_size": wanted.group_size,
            "calibration": {
                **_source(calibration.source, base).model_dump(),
                "samples": calibration.samples,
                "sequence_length": calibration.sequence_length,
            }
            if calibration is not None
            else None,
        }
    )


def _source(source: api.Source, base: BaseFacts) -> contract.Source:
    if source.uri.startswith("https://"):
        secret = source.secret_ref
        return contract.Source(url=source.uri, credentials=credentials_path(secret.name) if secret else None)
    root, path = source_path(source.uri, base)
    return contract.Source(root=root, path=path)


def _reference(snapshot: Snapshot, adapter_digest: str) -> contract.Endpoint:
    return _endpoint(adapter_service_name(snapshot.release), snapshot, adapter_backend(adapter_digest))


def _endpoint(service: str, snapshot: Snapshot, backend: Backend) -> contract.Endpoint:
    url = f"http://{service}.{snapshot.release.metadata.namespace}.svc"
    return contract.Endpoint(url=url, model=snapshot.model_name, root=snapshot.root_for(backend))


def _base(base: BaseFacts) -> contract.BaseReference:
    arguments = arguments_of(container_in(base))
    revision = arguments.value("--revision") if arguments else None
    return contract.BaseReference(model=base.model, name=base.name, revision=revision)


def _release(snapshot: Snapshot) -> contract.Release:
    meta = snapshot.release.metadata
    return contract.Release(namespace=meta.namespace, name=meta.name, uid=meta.uid)
