import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import both
import servers

import llmpool


@pytest.fixture(params=both.CALLERS)
def caller(request):
    return both.Caller(*request.param)


@pytest.fixture(params=both.NAMES)
def name(request):
    """A generation."""
    return request.param


@pytest.fixture(scope="session")
def nginx(tmp_path_factory, certificates):
    """One of their own: the shared pool keeps its connections, and other tests count those."""
    server = servers.Nginx(tmp_path_factory.mktemp("nginx-adapters"), certificates)
    with server.run():
        yield server


@pytest.fixture
def install():
    yield llmpool.install
    llmpool.uninstall()


@pytest.fixture
def proxied():
    """A proxy that answers with what it was asked."""
    with servers.RawServer(servers.answer_heads) as server:
        yield server
