"""What a job is told to do: versioned JSON documents, built by the controller, read by the job.

Imports pydantic and the standard library only, because both processes use it; what comes back is in
`summary.py`. Must not know how any stage works.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from controller.job.document import API_VERSION, ApiVersion, Digest, Document, Finite

# Names become directory names in the store: one path component, never hidden, never "..".
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2048)]


class Stage(StrEnum):
    EXPERIMENTAL = "Experimental"
    STABLE = "Stable"


class Use(StrEnum):
    """What an adapter has to be good for."""

    SERVE = "Serve"  # vLLM loads it beside its base
    MERGE = "Merge"  # it is merged, and no server ever loads it
    EITHER = "Either"  # vLLM loads it; or, where vLLM cannot serve what it is, it is merged only


class Scorer(StrEnum):
    EXACT_MATCH = "ExactMatch"
    CONTAINS = "Contains"


class Release(Document):
    """Whose job this is; for logs and provenance."""

    namespace: str
    name: str
    uid: str = ""


class Source(Document):
    """Where files are: a mounted `path` that must stay inside `root`, or an https `url`.

    `credentials` is the directory of a mounted Secret: `token`, or `username` and `password`; maybe `ca.crt`.
    """

    path: str | None = None
    root: str | None = None
    url: Annotated[str, Field(pattern=r"^https://[^\s]+$", max_length=2048)] | None = None
    credentials: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Source:
        if (self.path is None) == (self.url is None):
            raise ValueError("give either path or url")
        if self.path is not None and self.root is None:
            raise ValueError("a path needs root, the mount that it must stay inside")
        return self


class BaseReference(Document):
    """The base model as vLLM sees it: a directory, or a Hub id that lies in the mounted Hub cache."""

    model: str = Field(min_length=1)
    name: str = Field(min_length=1)
    revision: str | None = None


class AdapterSource(Document):
    name: Name
    version: Version
    digest: Digest | None = None
    training_run: str | None = None
    source: Source


class ImportContract(Document):
    """Fetch, check and keep one adapter.

    Whether a stage suits an adapter that can only be merged is the controller's to say: promoting imports nothing
    again. `use` is Merge where there is no server.
    """

    api_version: ApiVersion = API_VERSION
    kind: Literal["Import"] = "Import"
    release: Release
    store: str
    adapter: AdapterSource
    base: BaseReference
    max_lora_rank: int = Field(ge=1)
    use: Literal[Use.MERGE, Use.EITHER] = Use.EITHER
    max_bytes: int = Field(16 << 30, ge=1)


class AdapterInput(Document):
    """An imported adapter: `path` is its directory in the store."""

    name: Name
    version: Version
    digest: Digest
    path: str
    training_run: str | None = None
    weight: Finite = 1.0


class MergeSpec(Document):
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Calibration(Source):
    """JSONL, one {"messages": [...], "expected": ...} or {"text": ...} a line."""

    samples: int = Field(256, ge=1)
    sequence_length: int = Field(2048, ge=16)


Method = Literal["AWQ", "GPTQ", "FP8", "INT8"]
Scheme = Literal["W4A16", "W4A16_ASYM", "FP8_DYNAMIC", "W8A8"]
SCHEMES: Mapping[Method, tuple[Scheme, ...]] = {  # the first is the default
    "AWQ": ("W4A16_ASYM", "W4A16"),
    "GPTQ": ("W4A16", "W4A16_ASYM"),
    "FP8": ("FP8_DYNAMIC",),
    "INT8": ("W8A8",),
}
GROUPED: tuple[Method, ...] = ("AWQ", "GPTQ")
CALIBRATED: tuple[Method, ...] = ("AWQ", "GPTQ", "INT8")


class Quantization(Document):
    """`method` None keeps the merged weights as they are. Scheme and group size are the method's when not given."""

    method: Method | None = "AWQ"
    scheme: Scheme | None = None
    group_size: Literal[32, 64, 128] | None = None
    calibration: Calibration | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_method(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        method = given.get("method", "AWQ")
        filled = {to_camel(k): v for k, v in given.items() if v is not None or k == "method"}
        if method in SCHEMES:
            filled.setdefault("scheme", SCHEMES[method][0])
        if method in GROUPED:
            filled.setdefault("groupSize", 128)
        return filled

    @model_validator(mode="after")
    def _all_fits_the_method(self) -> Quantization:
        name = self.method or "no quantization"
        schemes = SCHEMES[self.method] if self.method is not None else ()
        if self.scheme is not None and self.scheme not in schemes:
            raise ValueError(f"scheme {self.scheme} is not one of {name}: {', '.join(schemes) or 'there is none'}")
        if self.group_size is not None and self.method not in GROUPED:
            raise ValueError(f"{name} has no groups: leave the group size out")
        if (self.calibration is not None) != (self.method in CALIBRATED):
            raise ValueError(f"{name} {'needs' if self.calibration is None else 'looks at no'} calibration data")
        return self

    def __str__(self) -> str:
        """`AWQ W4A16_ASYM g32`, as provenance says it."""
        groups = f" g{self.group_size}" if self.group_size is not None else ""
        return f"{self.method} {self.scheme}{groups}" if self.method is not None else "none"


class BuildContract(Document):
    """Merge, quantize and publish one artifact."""

    api_version: ApiVersion = API_VERSION
    kind: Literal["Build"] = "Build"
    release: Release
    store: str
    base: BaseReference
    adapters: tuple[AdapterInput, ...] = Field(min_length=1)
    merge: MergeSpec = MergeSpec()
    quantization: Quantization | None = None


class Endpoint(Document):
    """An OpenAI-compatible server (`url` without /v1) and the model name to ask for.

    `root` is the directory that it must serve the model from, as its /v1/models says; None: whatever it serves.
    """

    url: Url
    model: str = Field(min_length=1)
    root: str | None = None


class Suite(Document):
    """JSONL, one {"messages": [...], "expected": "..."} a line."""

    name: Name
    source: Source
    scorer: Scorer = Scorer.CONTAINS
    max_tokens: int = Field(64, ge=1)


class Benchmark(Document):
    concurrency: int = Field(8, ge=1, le=1024)
    requests: int = Field(64, ge=1)


KeepExamples = Literal["Changed", "None"]


class EvaluatedArtifact(Document):
    """What the candidate serves, and the adapter in it: what the kept scores are about.

    `inputs` names the evaluation: the same inputs have the same name.
    """

    id: Digest
    digest: Digest
    adapter_digest: Digest | None = None
    inputs: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class EvaluateContract(Document):
    """Score and time the reference (the live adapter) and the candidate (the merged model).

    Without a reference (an adapter that vLLM cannot serve) the candidate alone. With `artifact` the scores are kept in
    the store, beside it; and the examples that changed, word for word, unless `examples` is None.
    """

    api_version: ApiVersion = API_VERSION
    kind: Literal["Evaluate"] = "Evaluate"
    release: Release
    store: str | None = None
    artifact: EvaluatedArtifact | None = None
    reference: Endpoint | None = None
    candidate: Endpoint
    api_key_file: str | None = None
    suites: tuple[Suite, ...] = Field(min_length=1)
    benchmark: Benchmark | None = Benchmark()
    examples: KeepExamples = "Changed"

    @model_validator(mode="after")
    def _scores_are_kept_in_a_store(self) -> EvaluateContract:
        if self.artifact is not None and self.store is None:
            raise ValueError("to keep the scores of an artifact give the store that it is in")
        return self


Contract = Annotated[ImportContract | BuildContract | EvaluateContract, Field(discriminator="kind")]
_CONTRACT: TypeAdapter[ImportContract | BuildContract | EvaluateContract] = TypeAdapter(Contract)


def parse_contract(text: str | bytes) -> ImportContract | BuildContract | EvaluateContract:
    """The contract in `text`. Raises ValueError that lists every offending field."""
    try:
        return _CONTRACT.validate_json(text)
    except ValidationError as e:
        lines = [f"{'.'.join(map(str, x['loc'])) or 'document'}: {x['msg']}" for x in e.errors()]
        raise ValueError("; ".join(lines)) from e
