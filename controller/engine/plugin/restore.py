"""After a container's restart: what the pod's annotations name is loaded before vLLM accepts connections.

So a label that says "loaded" does not lie, even while the controller is down. One adapter that fails blocks neither
the others nor the start: it is tried again, and until then clients are told to come back.
"""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from .asgi import Message, Receive, Scope, Send
from .failures import say, warn
from .inside import UnlistableError, shown
from .plugin import Plugin
from .state import Declaration, InvalidError, Missing, declaration

FILE = "annotations"
PREFIX = "engine.adapterrelease.dev/"


class Restore:
    """`patience`: seconds for one adapter. `pause`: between two tries."""

    def __init__(
        self,
        plugin: Plugin,
        patience: float = 60.0,
        pause: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(5),
    ) -> None:
        self._plugin, self._patience, self._pause = plugin, patience, pause

    async def lifespan(self, app: Callable[..., Awaitable[None]], scope: Scope, receive: Receive, send: Send) -> None:
        """vLLM's own start, then ours, and only then the server listens."""
        again: list[asyncio.Task[None]] = []

        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    self._plugin.inside.learn(scope)
                    await self.all()
                    if self._plugin.state.missing:
                        again.append(asyncio.create_task(self.until_done()))
                except Exception as error:
                    self._plugin.failures.report("restore", error)
            await send(message)

        try:
            await app(scope, receive, sending)
        finally:
            for task in again:
                task.cancel()

    async def all(self) -> None:
        wanted = declarations(self._plugin.directory / FILE)
        await asyncio.gather(*(self._one(declared) for declared in wanted))

    async def until_done(self) -> None:
        while self._plugin.state.missing:
            await self._pause()
            for missing in tuple(self._plugin.state.missing.values()):
                if self._plugin.state.missing.get(missing.declared.name) is missing:
                    await self._one(missing.declared)

    async def _one(self, declared: Declaration) -> None:
        """Loaded and declared, or missing; never raises. A declaration that came meanwhile stays."""
        state, name = self._plugin.state, declared.name
        before = state.missing.get(name)
        try:
            async with asyncio.timeout(self._patience):
                why = await self._load(declared)
        except TimeoutError:
            why = f"loading took over {self._patience:g} s"
        except Exception as error:
            self._plugin.failures.report("restore", error)
            why = f"{type(error).__name__}: {error}"
        if name in state.models or state.missing.get(name) is not before:
            return
        try:
            self._settle(declared, why, before)
        except Exception as error:
            self._plugin.failures.report("restore", error)
            if name not in state.models:
                state.miss(declared, f"{type(error).__name__}: {error}")

    def _settle(self, declared: Declaration, why: str | None, before: Missing | None) -> None:
        if why is None:
            self._plugin.declare(declared)
            say("restored %s from %s", declared.name, declared.path)
        else:
            self._plugin.miss(declared, why)
            if before is None or before.why != why:
                warn("%s could not be restored, and is tried again: %s", declared.name, why)

    async def _load(self, declared: Declaration) -> str | None:
        """Why it could not be loaded, in vLLM's words."""
        if declared.target is None:
            return None
        inside = self._plugin.inside
        try:
            root = (await inside.roots()).get(declared.target)
        except UnlistableError as unlistable:
            return str(unlistable)
        if root is None:
            document = {"lora_name": declared.target, "lora_path": declared.path}
            status, body = await inside.ask("POST", "/v1/load_lora_adapter", document)
            return None if status == 200 else f"vLLM answered {status}: {shown(body)}"
        if root.rstrip("/") != (declared.path or root).rstrip("/"):
            return f"vLLM has {declared.target} from {root}, not from {declared.path}"
        return None


def declarations(path: Path) -> list[Declaration]:
    """Of the downward API's file: `key="value"` in lines, the value quoted as Go does. What is none is logged."""
    found = []
    try:
        lines = path.read_text("utf-8").split("\n")
    except FileNotFoundError:
        return []
    for line in lines:
        key, _, quoted = line.partition("=")
        if not key.startswith(PREFIX):
            continue
        try:
            document = json.loads(ast.literal_eval(quoted))
            found.append(declaration(document["name"], document))
        except (ValueError, SyntaxError, KeyError, TypeError, InvalidError) as error:
            warn("the annotation %s is no declaration: %s", key, error)
    return found
