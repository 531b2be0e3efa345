"""A small generic controller runtime on the official Kubernetes client as transport.

Reflector, work queue, workers, leader election, events, health and metrics. Knows nothing of releases
and imports nothing of the project but `controller.errors`.
"""
