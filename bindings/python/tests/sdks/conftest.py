import pytest
from servers import Calls

import llmpool
from llmpool.mock import MockServer

try:
    import ways
except ImportError:  # without these SDKs; what needs them skips
    ways = None

WAYS = ways.WAYS if ways else ()


@pytest.fixture(params=WAYS)
def way(request):
    if request.param == "install":
        llmpool.install()
    yield request.param
    llmpool.uninstall()


@pytest.fixture(scope="session")
def quick():
    """A mock with TLS whose errors may be tried again at once."""
    with MockServer(retry_after=0.001, tokens=8) as server:
        yield server


@pytest.fixture
def calls(quick):
    return Calls(quick)


@pytest.fixture(params=("sync", "async"))
def kind(request):
    return request.param


@pytest.fixture
def paced_kit(kind, way, tokens):
    """For a server whose streams take a while."""
    return ways.Kit(way, tokens.url, tokens.ca_file, kind)


@pytest.fixture
def kit(kind, way, quick, calls):
    """By each way and kind; on ours every call goes over one connection of HTTP/2."""
    kit = ways.Kit(way, quick.url, quick.ca_file, kind)
    yield kit
    seen = calls.since()
    if kit.is_ours:
        assert seen["versions"].get("1.1", 0) == 0 and seen["connections"] <= 1, seen
    else:
        assert seen["versions"].get("2", 0) == 0, seen
