"""Every reason that a job gives when it fails: CamelCase words for conditions, events and scripts.

Must not know who gives them.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Permanent, unless it says Transient: those are tried again."""

    # An adapter is refused. vLLM answers 200 to most of these and then serves nonsense.
    UNSUPPORTED_FORMAT = "UnsupportedFormat"  # not safetensors, a damaged file, a link out, a pipe
    INVALID_CONFIG = "InvalidConfig"  # adapter_config.json is missing, malformed, or does not fit the tensors
    BASE_MISMATCH = "BaseMismatch"  # shapes, layers, modules or tokens that the base does not have
    INCOMPLETE_TENSORS = "IncompleteTensors"  # a lora_A or lora_B, or all tensors of a targeted module, are missing
    NON_FINITE_WEIGHTS = "NonFiniteWeights"  # NaN or infinity, in the adapter or after the merge
    RANK_TOO_HIGH = "RankTooHigh"  # over the server's --max-lora-rank
    UNSUPPORTED_COMBINATION = "UnsupportedCombination"  # adapters that replace tensors cannot be summed
    NOT_SERVABLE_DYNAMICALLY = "NotServableDynamically"  # DoRA, biases, whole tensors, embeddings, PiSSA

    # The source of an adapter, a suite or calibration data.
    SOURCE_NOT_FOUND = "SourceNotFound"  # nothing is there
    SOURCE_FORBIDDEN = "SourceForbidden"  # credentials, http, a path out of its volume, the pod's own address
    SOURCE_INVALID = "SourceInvalid"  # something is there, but not what was asked for
    SOURCE_TOO_LARGE = "SourceTooLarge"  # more bytes than the limit
    SOURCE_UNAVAILABLE = "SourceUnavailable"  # the server does not answer, or answers 5xx or 429 (Transient)
    DIGEST_MISMATCH = "DigestMismatch"  # the files are not those of the pinned or imported digest

    # What is built, and from what.
    BASE_MODEL_NOT_FOUND = "BaseModelNotFound"  # the base model's directory is not mounted and not in the Hub cache
    INVALID_BASE = "InvalidBase"  # the base model cannot be read, or cannot be merged into
    INVALID_GROUP_SIZE = "InvalidGroupSize"  # it does not divide the input size of some linear layer
    UNSUPPORTED_QUANTIZATION = "UnsupportedQuantization"  # the method cannot quantize a model of this architecture
    INVALID_CALIBRATION = "InvalidCalibration"  # too few, too short, empty or malformed samples
    INSUFFICIENT_MEMORY = "InsufficientMemory"  # the container's memory limit is too low, or its GPU too small
    INSUFFICIENT_DISK = "InsufficientDisk"  # the store is too full (Transient)
    UNSUPPORTED_DEVICE = "UnsupportedDevice"  # merging runs on the CPU
    TOOL_MISSING = "ToolMissing"  # the image lacks a package that the job needs

    # What is evaluated.
    EMPTY_SUITE = "EmptySuite"  # a suite without examples proves nothing
    INVALID_SUITE = "InvalidSuite"  # a line without messages or without an expected answer
    ENDPOINT_UNREACHABLE = "EndpointUnreachable"  # no answer from one of the two servers (Transient)
    MODEL_NOT_SERVED = "ModelNotServed"  # one of the two servers serves something else (Transient)

    # An artifact that is verified.
    ARTIFACT_NOT_FOUND = "ArtifactNotFound"  # no artifact.json is there (Transient: a volume may show it late)
    ARTIFACT_CORRUPTED = "ArtifactCorrupted"  # its files are not those that its artifact.json lists
    ARTIFACT_MISMATCH = "ArtifactMismatch"  # a whole artifact, but not the one that was asked for, or its id is wrong
    ARTIFACT_WRITABLE = "ArtifactWritable"  # somebody could change it
    PROVENANCE_INCOMPLETE = "ProvenanceIncomplete"  # artifact.json is not the statement that it should be
    SIGNATURE_MISSING = "SignatureMissing"  # a signature was asked for, and there is none
    SIGNATURE_INVALID = "SignatureInvalid"  # not made by this key, or not for these files

    # The store and the job itself.
    STORE_CORRUPTED = "StoreCorrupted"  # a published directory was changed by somebody
    DISK_FULL = "DiskFull"  # a write failed for lack of space (Transient)
    STORAGE_ERROR = "StorageError"  # a read or write failed (Transient)
    OUT_OF_MEMORY = "OutOfMemory"  # an allocation failed (Transient)
    TERMINATED = "Terminated"  # the job was asked to stop (Transient)
    INTERNAL_ERROR = "InternalError"  # something that nobody foresaw; the log has it (Transient)
    INVALID_CONTRACT = "InvalidContract"  # controller and job image are of different versions
    RESULT_TOO_LONG = "ResultTooLong"  # the result does not fit into the termination message
    INVALID_RELEASE = "InvalidRelease"  # `build -f`: the file is no AdapterRelease that can be built
    INVALID_ARGUMENT = "InvalidArgument"  # an argument of the command line
