"""Which piece of an answer has the first token, and how many there were. Must not know: metrics.

vLLM leaves the tokens of a finished request in its state, "for middlewares". Asking for them by `stream_options` would
change the stream: `system_fingerprint` moves to another event. Of `/v1/responses` it leaves none; the answer has them.
"""

from __future__ import annotations

import json

from .asgi import Scope

Tokens = tuple[int, int]  # of the prompt, generated

RESPONSES = "/v1/responses"
_BEFORE_TOKENS = (b"event: response.created\n", b"event: response.in_progress\n")
_LAST = b"event: response.completed\ndata: "


def is_of_the_model(piece: bytes) -> bool:
    """Of a stream: no comment, nor what announces a response."""
    return piece[:1] not in b":" and not piece.startswith(_BEFORE_TOKENS)


def may_tell(piece: bytes) -> bool:
    """Of an answer of RESPONSES."""
    return piece[:1] == b"{" or piece.startswith(_LAST)


def told_by(piece: bytes) -> Tokens:
    """Zeros where there is no usage in it, as in an error."""
    try:
        document = json.loads(piece.removeprefix(_LAST))
        usage = document.get("response", document)["usage"]
        return int(usage["input_tokens"]), int(usage["output_tokens"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0, 0


def left_in(scope: Scope) -> Tokens:
    usage = getattr(scope["state"].get("request_metadata"), "final_usage_info", None)
    return getattr(usage, "prompt_tokens", None) or 0, getattr(usage, "completion_tokens", None) or 0
