import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import both
import servers


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
