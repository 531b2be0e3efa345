"""A Containerfile as its instructions, by stage. Knows what the one of this project uses, and no more."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """`base` is an image, or a stage before it."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.instructions if name == instruction]


@dataclass
class Containerfile:
    arguments: dict[str, str]
    stages: dict[str, Stage]

    def chain(self, name: str) -> list[Stage]:
        """The stage and what it is made from, the first one last."""
        stage = self.stages[name]
        return [stage, *(self.chain(stage.base) if stage.base in self.stages else [])]

    def environment(self, name: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for stage in reversed(self.chain(name)):
            for line in stage.of("ENV"):
                found |= dict(part.split("=", 1) for part in shlex.split(line))
        return found

    def last(self, name: str, instruction: str) -> str:
        """What holds in the image: that of the last line, in the stage or in what it is made from."""
        return next(lines[-1] for stage in self.chain(name) if (lines := stage.of(instruction)))

    def entrypoint(self, name: str) -> list[str]:
        found: list[str] = json.loads(self.last(name, "ENTRYPOINT"))
        return found


def parse(path: Path) -> Containerfile:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    made = Containerfile({}, {})
    stage: Stage | None = None
    for line in filter(str.strip, text.splitlines()):
        name, arguments = line.split(None, 1)
        if name == "FROM":
            base, _, alias = arguments.partition(" AS ")
            base = re.sub(r"\$\{(\w+)\}", lambda m: made.arguments[m[1]], base)
            stage = made.stages[alias] = Stage(alias, base)
        elif name == "ARG" and stage is None:
            key, _, default = arguments.partition("=")
            made.arguments[key] = default
        else:
            assert stage is not None, f"{line}: before the first FROM"
            stage.instructions.append((name, arguments))
    return made
