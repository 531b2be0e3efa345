"""The engine plugin: one ASGI middleware that runs inside vLLM (`--middleware=adapterrelease_engine.Middleware`).

Alias, drain, metrics by release, doors, restore: see docs/engine-plugin.md. Shipped as files in a ConfigMap, so it
may use the standard library and prometheus_client, which vLLM has, and nothing of this project. The rule above all
others: an error in here never fails a client's request.
"""

from .middleware import Middleware
from .version import plugin_version

__all__ = ["Middleware", "plugin_version"]
