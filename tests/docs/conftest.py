"""The real API server with the CRD, as the tests of the API use it."""

from tests.api.conftest import cluster, kubectl

__all__ = ["cluster", "kubectl"]
