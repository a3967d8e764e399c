"""docs/monitoring.md says what the library shows: every metric, every notice, every field."""

import ctypes
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import servers

import llmpool
from llmpool._fleet.leases import Leases
from llmpool._http import constants
from llmpool._native import abi
from llmpool._native.library import lib
from llmpool._native.record import Reader

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "monitoring.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="outside the repository")


def rows(columns):
    """The rows of the page's tables that have so many columns, without their heads."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        named = line.startswith("| `") and cells[0].endswith("`") and "_`..." not in cells[0]
        if named and len(cells) == columns:
            found.append([cells[0].strip("`"), *cells[1:]])
    return found


def test_every_metric_is_on_the_page(open_client, nginx):
    client = open_client(nginx.url)
    client.get("/small")
    text = client.pool.metrics()
    kinds = dict(re.findall(r"^# TYPE llmpool_(\w+) (\w+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP llmpool_(\w+) (.*)$", text, re.MULTILINE))
    page = {name: (kind, what) for name, kind, what, _ in rows(4) if kind in kinds.values()}
    assert page == {name: (kinds[name], helps[name]) for name in kinds}


def strictly_read(text):
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def test_open_metrics_as_its_own_parser_wants_them(open_client, nginx):
    client = open_client(nginx.url)
    client.get("/small", budget='b"\\')
    text = client.pool.metrics(openmetrics=True)
    families = strictly_read(text)
    assert families["llmpool_requests_submitted"].samples[0].value == 1
    assert families["llmpool_sent_bytes"].unit == "bytes"
    assert families["llmpool_utilization_ratio"].unit == "ratio"
    assert {name for name in families if name.endswith("_seconds")} == {
        name for name, family in families.items() if family.unit == "seconds"
    }
    (waiting,) = families["llmpool_budget_waiting"].samples
    assert waiting.labels == {"budget": 'b"\\'}
    names = re.findall(r"^(llmpool_\w+)", text, re.MULTILINE)
    assert set(names) == set(re.findall(r"^(llmpool_\w+)", client.pool.metrics(), re.MULTILINE))


def test_the_bounds_of_the_histograms_are_on_the_page(open_client, nginx):
    client = open_client(nginx.url)
    client.get("/small")
    text = client.pool.metrics()
    page = {name: cells for name, _, cells in rows(3) if name.endswith("_seconds")}
    from llmpool._pool.together import _HISTOGRAMS

    assert set(page) == set(_HISTOGRAMS)
    for name, cells in page.items():
        powers = [int(power) for power in cells.split(", ")]
        assert powers == list(_HISTOGRAMS[name][1])
        found = re.findall(rf'^llmpool_{name}_bucket\{{.*le="([0-9.]+)"', text, re.MULTILINE)
        if found:
            assert found == [f"{(1 << power) / 1e6:.6f}" for power in powers]


def test_every_count_is_a_metric_with_its_value(open_client, nginx):
    client = open_client(nginx.url)
    for _ in range(3):
        client.get("/small")
    (origin,) = client.pool.origins()
    stats = client.pool.stats(origin)
    samples = dict(
        re.findall(r"^llmpool_(\w+)\{[^}]*\} (\S+)$", client.pool.metrics(), re.MULTILINE)
    )
    fields = {
        field.strip("`"): name
        for name, kind, _, field in rows(4)
        if kind in ("counter", "gauge") and field
    }
    assert set(fields) == {name for name, _ in abi.Stats._fields_} - {"size"}
    for field, name in fields.items():
        if field != "utilization":
            assert int(samples[name]) == getattr(stats, field), name


class Watched:
    """The notices of a pool, by kind, each with its fields."""

    def __init__(self, pool):
        queue = ctypes.c_void_p()
        assert lib.queue_open(None, ctypes.byref(queue)) == 0
        self.queue = queue.value
        self.reader = Reader(self.queue, 64, 64 << 10)
        self.seen = {}
        assert lib.watch(pool._handle, self.queue, 0xFFFFFFFF & sum(KINDS), 0) == 0

    def has(self, *kinds):
        records, blob, _ = self.reader.read()
        for record in records:
            lines = blob[record[10] : record[11]].decode().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines if line)
            self.seen.setdefault(record[8], []).append(fields)
        return all(kind in self.seen for kind in kinds)


KINDS = {
    getattr(constants, name): name.removeprefix("NOTICE_")
    for name in dir(constants)
    if name.startswith("NOTICE_")
}


def test_every_notice_and_its_fields_are_on_the_page(open_pool):
    page = {
        name: re.findall(r"`([a-z-]+)`", fields) for name, _, fields, _ in rows(4) if name.isupper()
    }
    assert set(page) == set(KINDS.values())
    free, slow = threading.Event(), []

    def handle(connection, _):
        buffer = b""
        while True:
            head, _, buffer = servers.read_request(connection, buffer)
            free.wait(10)
            if head.startswith(b"GET /slow"):  # until the second attempt has come
                slow.append(head)
                assert servers.wait_until(lambda: len(slow) > 1)
            if head.startswith(b"GET /busy"):
                servers.answer(connection, b"", b"retry-after-ms: 10\r\n", b"429 Too Many Requests")
            else:
                servers.answer(connection)

    limits = llmpool.Limits(max_connections=1)
    pool = open_pool(limits=limits, retry_backoff=0.001, breaker=llmpool.Breaker(2))
    watched = Watched(pool)
    with servers.RawServer(handle) as server, ThreadPoolExecutor(2) as executor:
        client = llmpool.Client(pool=pool)
        futures = [executor.submit(client.get, server.url) for _ in range(2)]
        assert servers.wait_until(lambda: watched.has(constants.NOTICE_UTILIZATION_HIGH))
        free.set()
        assert all(future.result().is_success for future in futures)
        with client.stream("GET", server.url, timeout=llmpool.Timeout(event=1)) as response:
            response.read()
        assert client.get(server.url + "/busy", budget="b").status_code == 429
        assert client.get(server.url, budget="b").is_success
        pool.configure(limits=llmpool.Limits(max_connections=2))
        retry = llmpool.Retry(sent=True, hedge_after=0.05)
        assert client.get(server.url + "/slow", retry=retry).attempts == 2
        port = servers.free_port()
        with pytest.raises(llmpool.ConnectError):
            client.get(f"http://127.0.0.1:{port}")
        with servers.RawServer(handle, port=port):
            assert servers.wait_until(lambda: watched.has(constants.NOTICE_BREAKER_CLOSED))
        Leases(pool, ["b"]).share(0.5, has_store=True)
        assert servers.wait_until(lambda: watched.has(constants.NOTICE_LEASE_WANTED))
        pool.close()
        assert servers.wait_until(lambda: watched.has(*KINDS))
    for kind, notices in watched.seen.items():
        for fields in notices:
            told = [name for name in page[KINDS[kind]] if name in fields or name != "request-id"]
            assert list(fields) == told
    lib.queue_close(watched.queue)


def words(source, enum):
    """The cases of a Swift enumeration, as the fields write them."""
    text = (ROOT / "Sources" / "LLMPoolCore" / source).read_text()
    body = text[text.index(f"public enum {enum}:") :]
    body = body[: body.index("\n}\n")]
    names = ", ".join(re.findall(r"^  case ([\w, ]+)", body, re.MULTILINE))
    return {re.sub(r"([A-Z])", lambda m: "-" + m[1].lower(), name) for name in names.split(", ")}


def test_every_reason_of_a_close_is_on_the_page():
    assert {name for name, _ in rows(2)} == words("Event.swift", "CloseReason")
