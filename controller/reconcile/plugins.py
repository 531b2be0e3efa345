"""Facts about one release, out of what the engine plugin in a server says. Pure."""

from __future__ import annotations

from controller.domain.snapshot import PluginFacts
from controller.engine.plugin_client import ModelState, PluginState


def plugin_facts(state: PluginState, model_name: str) -> PluginFacts:
    """About one model name."""
    known = state.models.get(model_name, ModelState())
    return PluginFacts(
        version=state.version,
        target=known.target,
        is_declared=model_name in state.models,
        is_routed=known.is_routed,
        departed_seconds=known.departed_seconds,
        in_flight=state.in_flight,
        restore_failure=state.restore.get(model_name, ""),
    )
