"""Settings of the operator: environment variables ADAPTERRELEASE_<FIELD>. What concerns one release is in its spec."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """All durations are seconds."""

    model_config = SettingsConfigDict(env_prefix="ADAPTERRELEASE_", frozen=True, extra="ignore")

    # cluster
    kubeconfig: str | None = Field(None, description="Path of a kubeconfig; default: the pod's service account.")
    context: str | None = Field(None, description="Context in the kubeconfig; default: its current one.")
    namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Namespaces to watch, separated by commas; empty: all of them."
    )

    # jobs
    job_image: str = Field(
        "localhost/adapterrelease/job:dev", min_length=1, description="Image of import, build and validation jobs."
    )
    job_service_account: str = Field(
        "", description="Service account of jobs, in the release's namespace; empty: its default one. Without a token."
    )
    job_pod_template: dict[str, Any] | None = Field(
        None,
        description="Of all jobs, as JSON: what build.podTemplate may have, which wins over it. Concerns jobs that are"
        " made after it.",
    )

    # merged pods
    artifact_check: Literal["Digests", "Sizes", "None"] = Field(
        "Digests",
        description="What a merged pod compares with artifact.json before vLLM starts: digests, which reads every"
        " byte; sizes; or nothing.",
    )

    # validations
    keep_examples: Literal["Changed", "None"] = Field(
        "Changed",
        description="Which examples of a suite a validation keeps in the store, word for word, for the report: those"
        " that changed; or none.",
    )

    # work
    workers: int = Field(4, ge=1, le=64, description="Releases that are reconciled at the same time.")
    retry_max_delay: float = Field(
        30.0, gt=0, description="Longest wait before a failed reconciliation is tried again. Deadlines pass meanwhile."
    )
    drain_timeout: float = Field(20.0, gt=0, description="How long running reconciliations may finish after SIGTERM.")

    # vLLM
    engine_ask_timeout: float = Field(2.0, gt=0, description="Wait for an answer to /v1/models and /metrics.")
    engine_load_timeout: float = Field(60.0, gt=0, description="Wait for a load or unload of an adapter.")
    engine_probe_timeout: float = Field(30.0, gt=0, description="Wait for a completion of one token.")
    engine_connections: int = Field(16, ge=1, le=256, description="Servers that are asked at the same time.")

    # leader election
    lease_namespace: str | None = Field(None, description="Where the Lease is; default: the controller's namespace.")
    lease_name: str = Field("adapter-release-controller", description="Name of the Lease.")
    lease_duration: float = Field(15.0, gt=0, description="A leader that is silent for so long has lost.")
    lease_renew_deadline: float = Field(10.0, gt=0, description="A leader that cannot renew for so long stops.")
    lease_retry_period: float = Field(2.0, gt=0, description="Time between two tries to take or renew.")

    # being seen
    metrics_port: int = Field(8080, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics.")
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = Field(
        "INFO", description="DEBUG, INFO, WARNING or ERROR."
    )

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _lease_fits(self) -> Settings:
        if not self.lease_duration > self.lease_renew_deadline > self.lease_retry_period:
            raise ValueError("needed: lease_duration > lease_renew_deadline > lease_retry_period")
        return self
