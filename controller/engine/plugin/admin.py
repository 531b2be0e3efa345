"""The controller's API in this server: `/adapterrelease/v1`. Whoever gets here has shown the token.

An error in here is an answer to the controller; no client's request comes by.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from .asgi import Receive, Scope, Send, TooLargeError, answer, error, read_body
from .failures import say
from .inside import UnlistableError
from .plugin import Plugin
from .state import InvalidError, declaration

PREFIX = "/adapterrelease"
_V1, _MODELS = "/adapterrelease/v1/", "models/"
_Answer = tuple[int, dict[str, Any]]
_Handler = Callable[[Plugin, str, bytes], Awaitable[_Answer]]


class ConflictError(ValueError):
    """What vLLM says contradicts the declaration."""


def is_admin(scope: Scope) -> bool:
    return _own_path(scope).lower().startswith(PREFIX)


async def serve(plugin: Plugin, scope: Scope, receive: Receive, send: Send) -> None:
    plugin.inside.learn(scope)
    try:
        handler, name = _route(scope)
        status, document = await handler(plugin, name, await read_body(receive))
    except _RefusedError as refused:
        status, document = refused.status, error(str(refused))
    except TooLargeError as too_large:
        status, document = 413, error(str(too_large))
    except InvalidError as invalid:
        status, document = 400, error(str(invalid))
    except ConflictError as conflict:
        status, document = 409, error(str(conflict))
    except UnlistableError as unlistable:
        status, document = 502, error(str(unlistable))
    except ConnectionError:
        return
    except Exception as failure:
        plugin.failures.report("admin", failure)
        status, document = 500, error(f"the plugin failed: {type(failure).__name__}: {failure}")
    await answer(send, status, document)


class _RefusedError(ValueError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _own_path(scope: Scope) -> str:
    """The path as it was sent, so that a slash in a name can be told from one between names."""
    raw = scope.get("raw_path")
    path: str = scope["path"] if raw is None else raw.decode("latin-1")
    return path.removeprefix(scope.get("root_path", ""))


def _route(scope: Scope) -> tuple[_Handler, str]:
    path, method = _own_path(scope), scope["method"]
    rest = path.removeprefix(_V1)
    if not path.startswith(_V1):
        raise _RefusedError(404, f"there is no {path} here; the API is below {_V1}")
    if rest == "state":
        handlers: dict[str, _Handler] = {"GET": _state}
        name = ""
    elif rest.startswith(_MODELS) and rest.endswith("/routed") and rest.count("/") > 1:
        handlers = {"PUT": _put_routed}
        name = unquote(rest.removeprefix(_MODELS).removesuffix("/routed"))
    elif rest.startswith(_MODELS) and rest != _MODELS:
        handlers = {"PUT": _put_model, "DELETE": _delete_model}
        name = unquote(rest.removeprefix(_MODELS))
    else:
        raise _RefusedError(404, f"there is no {path} here; there are state, models/NAME and models/NAME/routed")
    if method not in handlers:
        raise _RefusedError(405, f"{path} knows {', '.join(handlers)}, not {method}")
    return handlers[method], name


async def _state(plugin: Plugin, _: str, body: bytes) -> _Answer:
    state = plugin.state
    return 200, {
        "version": plugin.version,
        "models": {name: state.describe(name) for name in state.models},
        "inFlight": state.in_flight,
        "restore": {name: missing.why for name, missing in state.missing.items()},
    }


async def _put_model(plugin: Plugin, name: str, body: bytes) -> _Answer:
    declared = declaration(name, _json(body))
    if (processes := plugin.inside.processes()) > 1:
        raise ConflictError(f"{processes} API servers share this port, and one was told; use --api-server-count=1")
    if declared.target is not None:
        roots = await plugin.inside.roots()
        root = roots.get(declared.target)
        if root is None:
            raise ConflictError(f"vLLM does not list {declared.target}; load it first")
        if declared.path is not None and root.rstrip("/") != declared.path.rstrip("/"):
            raise ConflictError(f"{declared.target} was loaded from {root}, not from {declared.path}")
    plugin.declare(declared)
    say("%s is now %s (version %s)", name, declared.engine_name, declared.version)
    return 200, plugin.state.describe(name)


async def _put_routed(plugin: Plugin, name: str, body: bytes) -> _Answer:
    document = _json(body)
    routed = document.get("routed") if isinstance(document, dict) else None
    if not isinstance(routed, bool):
        raise InvalidError('the body must be {"routed": true} or {"routed": false}')
    if name not in plugin.state.models:
        raise _RefusedError(404, f"{name} is not declared here")
    plugin.state.route(name, routed)
    say("%s is %s", name, "routed here" if routed else "no longer routed here")
    return 200, plugin.state.describe(name)


async def _delete_model(plugin: Plugin, name: str, body: bytes) -> _Answer:
    plugin.forget(name)
    say("%s is no longer declared", name)
    return 200, {}


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError as failure:
        raise InvalidError(f"the body is no JSON: {failure}") from failure
