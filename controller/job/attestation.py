"""in-toto statements: the form of everything that the project says about an artifact.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and resource_descriptor.md. As these ask,
fields that we do not know are ignored when a statement is read. Must not know what any predicate means.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from controller.job.strict_json import parse_object

TOOL = "adapter-release-controller"
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """camelCase on the wire, frozen; what is unknown is ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Descriptor(Part):
    """A ResourceDescriptor. `dirHash` is the digest of a directory as `store.digest_of` makes it."""

    name: str | None = None
    uri: str | None = None
    digest: dict[str, Hex] | None = None
    content: str | None = None  # base64
    media_type: str | None = None
    annotations: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _says_what_it_is(self) -> Descriptor:
        if not (self.uri or self.digest or self.content):
            raise ValueError("one of uri, digest and content is needed")
        return self


P = TypeVar("P")
S = TypeVar("S", bound=Part)


class Statement(Part, Generic[S, P]):
    """`predicate`, said of `subject`."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field("https://in-toto.io/Statement/v1", alias="_type")
    subject: tuple[S, ...] = Field(min_length=1)
    predicate_type: str
    predicate: P

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"


M = TypeVar("M", bound=Part)


def parse_statement(model: type[M], text: bytes, what: str) -> M:
    """The statement in `text`, of class `model`. Raises ValueError that lists every offending field."""
    try:
        return model.model_validate(parse_object(text, what))
    except ValidationError as e:
        lines = [f"{'.'.join(map(str, x['loc'])) or 'document'}: {x['msg']}" for x in e.errors()]
        raise ValueError(f"{what} is not complete: {'; '.join(lines)}") from e
