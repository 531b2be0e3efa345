"""Every reason that a condition or an event can carry. `docs/reasons.md` is generated from this file."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    # the summary and the base
    SERVING = "Serving"
    PENDING = "Pending"
    NO_READY_BACKEND = "NoReadyBackend"
    BASE_NOT_FOUND = "BaseNotFound"
    LORA_NOT_ENABLED = "LoraNotEnabled"
    RUNTIME_UPDATING_NOT_ALLOWED = "RuntimeUpdatingNotAllowed"
    STORE_NOT_MOUNTED = "StoreNotMounted"
    SEVERAL_STORES = "SeveralStores"
    NO_VLLM_CONTAINER = "NoVllmContainer"
    API_KEY_NOT_READABLE = "ApiKeyNotReadable"
    SERVICE_NAME_TAKEN = "ServiceNameTaken"
    MODEL_NAME_TAKEN = "ModelNameTaken"
    REVISION_NOT_FOUND = "RevisionNotFound"
    DELETING = "Deleting"
    ACTION_REFUSED = "ActionRefused"
    # import
    IMPORTED = "Imported"
    IMPORTING = "Importing"
    IMPORT_FAILED = "ImportFailed"
    IMPORT_DEADLINE_EXCEEDED = "ImportDeadlineExceeded"
    # load
    LOADED = "Loaded"
    LOADING = "Loading"
    NO_FREE_ADAPTER_SLOT = "NoFreeAdapterSlot"
    LOAD_FAILED = "LoadFailed"
    LOAD_FAILED_ON_SOME_PODS = "LoadFailedOnSomePods"
    LOAD_DEADLINE_EXCEEDED = "LoadDeadlineExceeded"
    NO_READY_BASE_POD = "NoReadyBasePod"
    UNLOADED = "Unloaded"
    # build
    NOT_REQUESTED = "NotRequested"
    BUILT = "Built"
    BUILDING = "Building"
    BUILD_FAILED = "BuildFailed"
    API_KEY_IN_PLAIN_TEXT = "ApiKeyInPlainText"
    BUILD_DEADLINE_EXCEEDED = "BuildDeadlineExceeded"
    # start and validate
    STARTING = "Starting"
    CANDIDATE_NOT_READY = "CandidateNotReady"
    VALIDATING = "Validating"
    PASSED = "Passed"
    VALIDATION_FAILED = "ValidationFailed"
    VALIDATION_INCONCLUSIVE = "ValidationInconclusive"
    VALIDATION_DEADLINE_EXCEEDED = "ValidationDeadlineExceeded"
    # traffic
    FIRST_LOAD = "FirstLoad"
    ADAPTER_UPDATED = "AdapterUpdated"
    PROMOTED = "Promoted"
    SWITCHING = "Switching"
    SWITCH_NOT_PROVEN = "SwitchNotProven"
    OBSERVING = "Observing"
    CHECKS_FAILED = "ChecksFailed"
    NO_DATA = "NoData"
    BACKEND_UNAVAILABLE = "BackendUnavailable"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    ROLLED_BACK_BY_USER = "RolledBackByUser"
    NO_BACKEND_TO_ROLL_BACK_TO = "NoBackendToRollBackTo"
    IDLE = "Idle"
    AS_EXPECTED = "AsExpected"
