"""Field types of the API: what a duration, a fraction and a digest look like on the wire.

Fractions and durations are strings (Kubernetes API conventions: no floats; durations as in Go).
Must not know: what any of them is used for.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

# At most 999999 of each unit: more would overflow the clock.
DURATION_PATTERN = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"
FRACTION_PATTERN = r"^[0-9]{1,6}(\.[0-9]{1,6})?$"
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
DNS_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_PART = re.compile(r"([0-9]+)([hms])")
_UNIT = {"h": 3600, "m": 60, "s": 1}


def parse_duration(text: str) -> timedelta:
    """`"1h30m"` -> timedelta. Raises ValueError for all but whole hours, minutes, seconds in that order."""
    if not text or not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration: write hours, minutes, seconds, as in 1h30m or 45s")
    return timedelta(seconds=sum(int(n) * _UNIT[unit] for n, unit in _PART.findall(text)))


def _checked_duration(text: str) -> str:
    parse_duration(text)
    return text


# The pattern stands before the validator: after it pydantic would leave it out of the schema.
Duration = Annotated[
    str, Field(pattern=DURATION_PATTERN, min_length=2, max_length=16), AfterValidator(_checked_duration)
]
Fraction = Annotated[str, Field(pattern=FRACTION_PATTERN, max_length=13)]
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN, max_length=71)]
DnsLabel = Annotated[str, Field(pattern=DNS_LABEL_PATTERN, min_length=1, max_length=63)]


def rule(expression: str, message: str, **more: str) -> dict[str, Any]:
    """One CEL rule, as the API server wants it in `x-kubernetes-validations`."""
    return {"rule": expression, "message": message, **more}


def validated(*rules: dict[str, Any]) -> dict[str, Any]:
    """`json_schema_extra` that carries CEL rules into the CRD."""
    return {"x-kubernetes-validations": list(rules)}


LIST_MAP_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
LIST_ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}


class ApiModel(BaseModel):
    """Base of every API type: camelCase on the wire, frozen in the process, unknown fields ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def to_wire(self) -> dict[str, Any]:
        """The object as JSON for the API server: camelCase, nothing that is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
