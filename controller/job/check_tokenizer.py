"""The tokenizer and chat template that trainers save beside an adapter, against the base's.

Requests are tokenized and put into words by the base's, whatever the adapter brings. So another vocabulary or a
token that the embedding cannot hold refuses the adapter, a difference that only loses quality is noted.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.job.adapter_files import is_readable
from controller.job.findings import Finding, shown, some
from controller.job.reasons import Reason
from controller.job.strict_json import read_object
from controller.job.subject import Subject

MAX_BYTES = 48 << 20  # the largest vocabularies of today need 34
MAX_TEMPLATE_BYTES = 1 << 20
# A trainer may give a few reserved tokens other names; another model's tokenizer names most of them differently.
MAX_RENAMED_SHARE = 0.01
_FILES = ("tokenizer.json", "added_tokens.json", "tokenizer_config.json", "chat_template.json", "chat_template.jinja")
_NAMED = ("bos_token", "eos_token")


@dataclass(frozen=True)
class Tokenizer:
    """`tokens` by id; `named` are the tokens that begin and end a text. `None` and empty: it does not say."""

    tokens: Mapping[int, str]
    named: Mapping[str, str]
    template: str | None


def compare(s: Subject) -> tuple[list[Finding], list[str]]:
    """What refuses the adapter, and what is only noted."""
    if s.base is None:
        return [], []
    if all(_is_the_same(s.adapter.path / name, s.base.path / name) for name in _FILES):
        return [], []
    try:
        ours = read_tokenizer(s.adapter.path)
    except ValueError as e:
        return [Finding(Reason.UNSUPPORTED_FORMAT, str(e))], []
    try:
        base = read_tokenizer(s.base.path)
    except ValueError as e:
        return [], [f"the base's tokenizer cannot be compared: {e}"]
    return [*_findings(s, ours, base)], [*_notes(ours, base)]


def _findings(s: Subject, ours: Tokenizer, base: Tokenizer) -> Iterator[Finding]:
    rows = s.vocabulary
    if rows is not None and (beyond := [t for i, t in ours.tokens.items() if i >= rows and i not in base.tokens]):
        yield Finding(
            Reason.BASE_MISMATCH,
            f"its tokenizer has {len(beyond)} tokens ({_tokens(beyond)}) beyond the {rows} that the embedding"
            " holds, and no resized embedding comes with it",
        )
    both = ours.tokens.keys() & base.tokens.keys()
    renamed = [i for i in both if ours.tokens[i] != base.tokens[i]]
    if len(renamed) > MAX_RENAMED_SHARE * len(both):
        first = min(renamed)
        yield Finding(
            Reason.BASE_MISMATCH,
            f"its tokenizer is of another model: {len(renamed)} of {len(both)} tokens differ, token {first} is"
            f" {shown(ours.tokens[first])}, the base's {shown(base.tokens[first])}",
        )


def _notes(ours: Tokenizer, base: Tokenizer) -> Iterator[str]:
    if ours.tokens and base.tokens:
        if added := [ours.tokens[i] for i in sorted(ours.tokens.keys() - base.tokens.keys())]:
            yield (
                f"its tokenizer has {len(added)} tokens that the base's has not ({_tokens(added)}): requests are"
                " tokenized by the base's, which splits them"
            )
        renamed = [i for i in sorted(ours.tokens.keys() & base.tokens.keys()) if ours.tokens[i] != base.tokens[i]]
        if renamed:
            pairs = [f"{shown(base.tokens[i])} is {shown(ours.tokens[i])}" for i in renamed]
            yield f"its tokenizer has other names for {len(renamed)} tokens ({some(pairs)}): requests use the base's"
    for name in _NAMED:
        if name in ours.named and name in base.named and ours.named[name] != base.named[name]:
            yield f"its {name} is {shown(ours.named[name])}, requests use the base's {shown(base.named[name])}"
    if ours.template is not None and ours.template != base.template:
        of_base = "the base has none" if base.template is None else "requests use the base's"
        yield f"its chat template is not the base's, and {of_base}: --chat-template gives it to the server"


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in `path`. Raises ValueError if it is malformed."""
    model, added, config, templates = (_read(path / name) for name in _FILES[:4])
    tokens = {**_of_model(model), **_added(model, added, config)}
    named = {name: text for name in _NAMED if (text := _content(config.get(name))) is not None}
    return Tokenizer(tokens, named, _template(path, config, templates))


def _is_the_same(path: Path, base: Path) -> bool:
    """Nothing is to be compared of a file that the adapter has not, or has just as the base."""
    return not is_readable(path) or (is_readable(base) and filecmp.cmp(path, base, shallow=False))


def _read(path: Path) -> Mapping[str, Any]:
    return read_object(path, MAX_BYTES) if path.is_file() else {}


def _of_model(document: Mapping[str, Any]) -> dict[int, str]:
    """Vocabulary of a tokenizer.json: a map for BPE and WordPiece, a list of pairs for Unigram."""
    model = document.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        return {i: text for text, i in vocabulary.items() if type(i) is int and i >= 0}
    if isinstance(vocabulary, list):
        return {i: str(e[0]) for i, e in enumerate(vocabulary) if isinstance(e, list) and e}
    return {}


def _added(model: Mapping[str, Any], added: Mapping[str, Any], config: Mapping[str, Any]) -> dict[int, str]:
    found = {number: text for text, number in added.items() if type(number) is int and number >= 0}
    listed = model.get("added_tokens")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and type(entry.get("id")) is int and (name := _content(entry)) is not None:
            found[entry["id"]] = name
    decoder = config.get("added_tokens_decoder")
    for key, entry in decoder.items() if isinstance(decoder, dict) else []:
        if key.isdecimal() and len(key) <= 9 and (name := _content(entry)) is not None:
            found[int(key)] = name
    return found


def _content(entry: Any) -> str | None:
    """A token, which is a text or a map that has it."""
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None


def _template(path: Path, config: Mapping[str, Any], templates: Mapping[str, Any]) -> str | None:
    """The default chat template. A file of its own wins, as in transformers."""
    file = path / "chat_template.jinja"
    if file.is_file() and file.stat().st_size <= MAX_TEMPLATE_BYTES:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    said: Any = templates.get("chat_template", config.get("chat_template"))
    if isinstance(said, list):
        said = next((t.get("template") for t in said if isinstance(t, dict) and t.get("name") == "default"), None)
    return said.strip() if isinstance(said, str) else None


def _tokens(texts: list[str]) -> str:
    return some([shown(t) for t in texts])
