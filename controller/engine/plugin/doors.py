"""Paths that only the controller may use, and the token that opens them.

Over-closing is right: no path of vLLM's that a client needs has these words in it. So no attempt is made to resolve
`..`, `//`, parameters or a root path as a router would: a path that has one of the words anywhere, at any depth of
percent-encoding, is a door.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from urllib.parse import unquote

from .asgi import Scope, header

WORDS = ("lora_adapter", "adapters", "invocations", "adapterrelease")
TOKEN_HEADER = b"x-adapterrelease-token"
TOKEN_FILES = ("token", "previous-token")
_DEEPEST = 8


def is_door(scope: Scope) -> bool:
    """Of an http or websocket scope."""
    try:
        path: str = scope["path"]
        if _has_word(path):
            return True
        raw = scope.get("raw_path")
        return raw is not None and b"%" in raw and _has_word(raw.decode("latin-1"))
    except Exception:
        return looks_like_one(scope)


def looks_like_one(scope: Scope) -> bool:
    """Where the door itself fails: closed for whatever may be one of its paths, open for all others."""
    try:
        said = repr((scope.get("path"), scope.get("raw_path"))).lower()
        return "%" in said or "adapter" in said or "invocation" in said
    except Exception:
        return True


def _has_word(path: str) -> bool:
    for _ in range(_DEEPEST):
        lowered = path.lower()
        if any(word in lowered for word in WORDS):
            return True
        if "%" not in path or (decoded := unquote(path)) == path:
            return False
        path = decoded
    return True  # nobody encodes a path that often to reach anything but a door


def refusal(scope: Scope, directory: Path) -> tuple[int, str] | None:
    """None: the door opens. The token's files are read each time: a Secret is rotated without a restart."""
    tokens = _tokens(directory)
    if not tokens:
        return 403, "closed: this server has no controller's token; mount the Secret adapterrelease-engine"
    given = header(scope["headers"], TOKEN_HEADER)
    if given is None:
        return 401, "only the adapter release controller may ask this: header X-Adapterrelease-Token is missing"
    fits = [hmac.compare_digest(given, token) for token in tokens]
    return None if any(fits) else (403, "X-Adapterrelease-Token is not this server's token")


def shows_a_token(scope: Scope) -> bool:
    return header(scope["headers"], TOKEN_HEADER) is not None


def without_token(scope: Scope) -> Scope:
    """As vLLM gets it. Fails open: a scope of another shape goes on as it is."""
    try:
        if not shows_a_token(scope):
            return scope
        return {**scope, "headers": [it for it in scope["headers"] if it[0] != TOKEN_HEADER]}
    except Exception:
        return scope


def is_controller(scope: Scope, directory: Path) -> bool:
    return shows_a_token(scope) and refusal(scope, directory) is None


def _tokens(directory: Path) -> list[bytes]:
    found = []
    for name in TOKEN_FILES:
        try:
            found.append((directory / name).read_bytes().strip())
        except OSError:
            continue
    return [token for token in found if token]
