"""What each reason of a failed job means and what to do. They reach the conditions as the job wrote them.

Must not know: the jobs; a test compares the names with those that controller/job gives.
"""

from __future__ import annotations

from collections.abc import Mapping

_NEW_VERSION = "Repair the adapter and give it a new version and source."

# Reason -> (meaning, what to do).
JOB_FAILURES: Mapping[str, tuple[str, str]] = {
    # the adapter
    "UnsupportedFormat": ("Not a PEFT adapter in safetensors, or a link that leads out of it.", _NEW_VERSION),
    "InvalidConfig": ("adapter_config.json is malformed, or does not fit the tensors.", _NEW_VERSION),
    "BaseMismatch": (
        "The adapter's layers, modules or shapes are not the base's. vLLM would load it and answer nonsense.",
        "Use an adapter that was trained on this base.",
    ),
    "IncompleteTensors": ("Tensors that the config promises are missing.", _NEW_VERSION),
    "NonFiniteWeights": (
        "NaN or Inf in the weights. One such adapter spoils answers of every model on its server.",
        _NEW_VERSION,
    ),
    "RankTooHigh": (
        "The rank is over the server's --max-lora-rank.",
        "Raise --max-lora-rank of the base, or train with a lower rank.",
    ),
    "UnsupportedCombination": (
        "Several adapters, or a weight other than 1, where one has DoRA, saved modules or trained tokens.",
        "Merge that adapter alone with weight 1, or train it as plain LoRA.",
    ),
    "NotServableDynamically": (
        "vLLM cannot serve it, and it cannot be merged either (PiSSA, repeated layers and others). On the command "
        "line also what can only be merged.",
        "Do what the message says, or train without it.",
    ),
    "DigestMismatch": (
        "The files are not the ones that were pinned or imported.",
        "Correct the pin, or find out who changed the files; then import again.",
    ),
    # sources
    "SourceNotFound": ("There is nothing at the source.", "Correct source.uri."),
    "SourceInvalid": (
        "The source is not what was expected there: a directory, a file, a sound archive.",
        "Correct it.",
    ),
    "SourceForbidden": (
        "The source lies where no job may read: outside its claim, on the node itself, not behind https; or its "
        "server refuses the credentials.",
        "Correct source.uri, or the Secret in secretRef.",
    ),
    "SourceTooLarge": ("The source is larger than an import may be.", "Is it the adapter, or a whole model?"),
    "SourceUnavailable": ("Transient: the source does not answer, or was cut off.", "Wait; else look at its server."),
    # the build
    "BaseModelNotFound": ("The base model is not where the base's Deployment says.", "Put it into the store."),
    "InvalidBase": (
        "The base model cannot be merged into: unreadable, without tensors, or quantized already.",
        "Serve the unquantized base model; the result is quantized afterwards.",
    ),
    "UnsupportedDevice": ("The merge cannot run on this device.", "Set build.merge.device: auto."),
    "InvalidGroupSize": ("groupSize does not divide the input size of a layer.", "Choose a smaller one."),
    "UnsupportedQuantization": (
        "The method, or transformers, does not know the model's architecture.",
        "Choose another method; None serves the merged weights as they are.",
    ),
    "InvalidCalibration": (
        "The calibration data are unreadable, too few, too short, or of no use to the model.",
        "Repair them; the message has the line.",
    ),
    "InsufficientMemory": (
        "The pod, or its GPU, has too little memory for the build.",
        "Raise the limit in build.podTemplate, or ask for a larger GPU there.",
    ),
    "InsufficientDisk": ("Transient: the store has too little room.", "Remove artifacts, or enlarge the store."),
    "ToolMissing": ("The job's image lacks a program or library that the build needs.", "Use the released image."),
    "StoreCorrupted": (
        "A directory in the store is not what it was when it was published: somebody changed it.",
        "Remove what the message names; the controller makes it again.",
    ),
    "ArtifactCorrupted": (
        "The artifact's files are not those that were published: changed, missing, or others besides.",
        "Remove the directory that the message names, then set the retry annotation: it is built again.",
    ),
    "ArtifactMismatch": (
        "There is a whole artifact, but not the one that was built and judged; or its id is not that of its inputs.",
        "Remove the directory that the message names, then set the retry annotation: it is built again.",
    ),
    "ArtifactNotFound": (
        "Transient: no artifact is at that path; a volume may show it late.",
        "If it was removed: set the retry annotation, and it is built again.",
    ),
    "ArtifactWritable": (
        "Somebody could change the artifact: a mode, or another name of a file. Only `adapterrelease verify` says so.",
        "`chmod -R a-w`; or `--any-mode`, for a copy or a volume without modes.",
    ),
    "ProvenanceIncomplete": (
        "artifact.json is not the statement that a build writes.",
        "Remove the directory that the message names, then set the retry annotation: it is built again.",
    ),
    "SignatureMissing": ("A signature was asked for, and there is none.", "Sign it by `adapterrelease sign`."),
    "SignatureInvalid": (
        "The signature was not made by this key, or not for these files.",
        "Find out who changed the files, or whose key it is; do not serve it.",
    ),
    # the validation
    "InvalidSuite": ("A line of the suite is no example.", "Repair the suite; the message has the line."),
    "EmptySuite": ("The suite has no examples: nothing would be proven.", "Fill it."),
    "EndpointUnreachable": ("Transient: the adapter or the artifact does not answer.", "Wait; else read its log."),
    "ModelNotServed": (
        "Transient: the endpoint answers, but not for this model, or with other files under its name.",
        "Wait; else read the log of its pods.",
    ),
    # the job itself
    "DiskFull": ("Transient: the volume is full.", "Remove artifacts, or enlarge the store."),
    "StorageError": ("Transient: the volume gave an error.", "Look at the node and at the volume."),
    "Terminated": ("Transient: the job was asked to stop, as when its node drains.", "Nothing: a retry goes on."),
    "InvalidContract": ("Controller and job image do not fit together.", "Use the same version of both."),
    "OutOfMemory": ("Transient: the job asked for more memory than there was.", "Raise it in build.podTemplate."),
    "InternalError": ("Transient: something that nobody foresaw; the message has it.", "Report it: this is a bug."),
    "ResultMissing": (
        "The job ended well, but its pod left no result.",
        "Use the same version of controller and image.",
    ),
    "JobFailed": ("The job failed without saying why.", "Read its log."),
    # in Kubernetes' words
    "OOMKilled": ("The kernel killed the job: it was over its memory limit.", "Raise the limit in build.podTemplate."),
    "Error": ("The job's process ended badly without saying why.", "Read its log."),
    "ContainerCannotRun": ("The job's container could not be started.", "Read the events of its pod."),
    "DeadlineExceeded": (
        "The job did not end within its deadline: build.deadline, validation.deadline, 10 minutes for an import.",
        "Is its pod scheduled? Else raise the deadline; what a build has finished is not done again.",
    ),
    "BackoffLimitExceeded": ("The job failed four times, and its last pod said nothing.", "Read the pods' logs."),
    "PodFailurePolicy": (
        "The job refused its input, and its pod is gone with the reason.",
        "Set the retry annotation.",
    ),
    "ResultTooLong": ("The result does not fit into a termination message.", "Report it: this is a bug."),
}
