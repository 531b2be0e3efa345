"""What the parts of the plugin share in one server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from .asgi import App
from .failures import Failures
from .inside import Inside
from .measured import Measured, measured
from .state import Declaration, Model, State
from .version import plugin_version


class Plugin:
    """`directory`: where the plugin's files, the token and the pod's annotations are."""

    def __init__(self, app: App, directory: Path, clock: Callable[[], float], registry: CollectorRegistry) -> None:
        self.directory, self.clock = directory, clock
        self.measured = self._measured(registry)
        self.failures = Failures(self.measured.error)
        self.state = State(clock)
        self.inside = Inside(app)
        self.version = ""
        try:
            self.version = plugin_version(Path(__file__).parent)
            self.measured.version(self.version)
            self._keep_series()
        except Exception as error:
            self.failures.report("start", error)

    @staticmethod
    def _measured(registry: CollectorRegistry) -> Measured:
        try:
            return measured(registry)
        except ValueError:  # somebody else has metrics of these names
            return Measured(CollectorRegistry())

    def declare(self, declared: Declaration) -> Model:
        model = self.state.declare(declared)
        self._keep_series()
        return model

    def forget(self, name: str) -> None:
        self.state.forget(name)
        self._keep_series()

    def miss(self, declared: Declaration, why: str) -> None:
        self.state.miss(declared, why)
        self._keep_series()

    def _keep_series(self) -> None:
        state = self.state
        models = [model.declared.labels for model in state.models.values()]
        missing = [it.declared.labels for it in state.missing.values()]
        self.measured.keep_only((*models, *missing))
