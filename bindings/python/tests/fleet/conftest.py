import processes
import pytest
from fleets import COUNTED, Fleet
from processes import redis_server
from stores import Script

from llmpool.mock import MockServer


class Store:
    """A server that may be ended, and started again empty."""

    def __init__(self, directory):
        self._directory = directory
        self.port = processes.free_port()
        self._server = None
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *options):
        self._server = redis_server(self._directory, *options, port=self.port)
        self.process = self._server.__enter__()

    def stop(self):
        if self._server is not None:
            self.process.kill()
            self._server.__exit__(None, None, None)
            self._server = None


@pytest.fixture(name="redis_server")
def store(tmp_path):
    server = Store(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.port


@pytest.fixture
def client(redis_port):
    """Of an empty store."""
    redis = pytest.importorskip("redis")
    client = redis.Redis(port=redis_port, socket_timeout=5)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def script(client):
    return Script(client)


@pytest.fixture
def start_fleet(redis_server):
    servers, fleets = [], []

    def start(budget=None, **options):
        server = MockServer(**{**COUNTED, **options})
        servers.append(server)
        server.__enter__()
        fleets.append(Fleet(server, redis_server, budget))
        return fleets[-1]

    yield start
    for fleet in fleets:
        fleet.kill()
    for server in servers:
        server.__exit__(None, None, None)
