"""Objects as people write them in YAML. Imported only by commands that print some: a merged pod has no YAML library."""

from __future__ import annotations

from typing import Any

import yaml


def as_yaml(document: Any, *, sort_keys: bool = False) -> str:
    """Scripts and files as blocks, not as one long string."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=sort_keys, width=120, allow_unicode=True)
    return text


class _Dumper(yaml.SafeDumper):
    pass


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _as_block)
_Dumper.add_multi_representer(str, lambda dumper, word: _as_block(dumper, str(word)))  # enumerations
