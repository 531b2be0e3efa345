"""A misbehaving API server and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes.client.configuration import Configuration

from controller.runtime.client import KubeClient
from controller.runtime.transport import Transport
from tests.fakes.apiserver import ApiServer


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def client(api: ApiServer) -> Iterator[KubeClient]:
    client = client_of(api)
    yield client
    client.close()


def client_of(api: ApiServer) -> KubeClient:
    configuration = Configuration()
    configuration.host = api.url
    return KubeClient(Transport(configuration, "tests"))
