"""Coroutines as tests: each in an event loop of its own."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from tests.engine.plugin.world import World


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
