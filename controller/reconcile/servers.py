"""What the servers in pods say: vLLM which adapters it holds, the engine plugin who its clients are.

All are asked at the same time. Of one that does not answer nothing is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from controller.domain.snapshot import BaseFacts, PodFacts
from controller.errors import AdapterReleaseError
from controller.reconcile.engines import Engine, Engines
from controller.reconcile.plugins import plugin_facts

log = logging.getLogger(__name__)

_Ask = Callable[[], PodFacts]


class Servers:
    """Those of one template, asked about one model name."""

    def __init__(
        self, engines: Engines, server: BaseFacts, namespace: str, model_name: str, api_key: str | None = None
    ) -> None:
        """The key is vLLM's, for its adapters; the plugin has a token of its own."""
        self._engines = engines
        self._server = server
        self._model_name = model_name
        self._api_key = api_key
        self._tokens = engines.tokens_of(namespace, server)

    def with_adapters(self, pods: Sequence[PodFacts]) -> tuple[PodFacts, ...]:
        """Both, or neither: a plugin that is not heard must not look like a server that has none."""
        return self._heard([partial(self._adapters_and_plugin if p.usable else self._plugin, p) for p in pods], pods)

    def with_clients(self, pods: Sequence[PodFacts]) -> tuple[PodFacts, ...]:
        return self._heard([partial(self._plugin, p) for p in pods], pods)

    def _heard(self, questions: Sequence[_Ask], pods: Sequence[PodFacts]) -> tuple[PodFacts, ...]:
        asked = [partial(_or_why_not, *each) for each in zip(questions, pods, strict=True)]
        return tuple(told or known for told, known in zip(self._engines.of_all(asked), pods, strict=True))

    def _adapters_and_plugin(self, pod: PodFacts) -> PodFacts:
        engine = self._engines.at(pod.ip, self._server.port, self._api_key, self._tokens)
        return replace(self._asked(pod), adapters=_adapters(engine))

    def _plugin(self, pod: PodFacts) -> PodFacts:
        """Also of a pod that ends: its clients have to be told."""
        return self._asked(pod) if pod.usable or (pod.deleting and pod.ip) else pod

    def _asked(self, pod: PodFacts) -> PodFacts:
        if not self._server.has_plugin:
            return pod
        state = self._engines.plugin_at(pod.ip, self._server.port, self._tokens).state()
        return replace(pod, plugin=plugin_facts(state, self._model_name)) if state is not None else pod


def _or_why_not(ask: _Ask, pod: PodFacts) -> PodFacts:
    try:
        return ask()
    except AdapterReleaseError as error:
        log.debug("pod %s gave no answer: %s", pod.name, error, extra={"reason": error.reason})
        return replace(pod, ask_problem=error.message)


def _adapters(engine: Engine) -> dict[str, str]:
    """Name -> root of the adapters; the base itself has no parent."""
    return {name: model.root for name, model in engine.models().items() if model.parent is not None}
