"""examples/grafana/llmpool.json: every query has data in a real Prometheus, which scrapes
examples/fastapi_app.py while it streams, is left by its callers, and loses its server."""

import contextlib
import json
import os
import re
import socket
import sys
import threading
from pathlib import Path

import pytest
import servers
from prometheus import PROGRAM, Prometheus

import llmpool

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
FILE = EXAMPLES / "grafana" / "llmpool.json"
RULES = EXAMPLES / "prometheus" / "alerts.yml"
pytestmark = [
    pytest.mark.skipif(not FILE.exists(), reason="outside the repository"),
    pytest.mark.skipif(not Path(PROGRAM).exists(), reason=f"no {PROGRAM}"),
]
DASHBOARD = json.loads(FILE.read_text()) if FILE.exists() else {"panels": [], "templating": {}}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = [each for each in DASHBOARD["templating"].get("list", ()) if each["type"] == "query"]


def filled_in(query):
    """As Grafana does it, with all of everything chosen."""
    query = query.replace("$__rate_interval", "5m")
    for variable in VARIABLES:
        query = query.replace(f"${variable['name']}", variable["allValue"])
    assert "$" not in query, query
    return query


# ---- what is scraped


def pump(source, sink):
    with contextlib.suppress(OSError, EOFError):
        while True:
            data = source.recv(65536)
            if not data:
                break
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def forwarder(to, port=0):
    """A way to a server that can be closed and opened again while the server stays as it is."""

    def handle(connection, _):
        connection.settimeout(None)
        with socket.create_connection(("127.0.0.1", to)) as server:
            back = threading.Thread(target=pump, args=(server, connection), daemon=True)
            back.start()
            pump(connection, server)
            back.join()

    return servers.RawServer(handle, port=port)


@contextlib.contextmanager
def application(tokens, upstream, directory):
    port = servers.free_port()
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": f"https://127.0.0.1:{upstream}/v1",
        "OPENAI_API_KEY": tokens.api_key,
        "OPENAI_MODEL": "gpt-mock",
        "LLM_CA_FILE": tokens.ca_file,
        "LLM_MEMBERS": "2",
        "PYTHONPATH": servers.python_path(),
    }
    command = (
        sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", str(port),
        "fastapi_app:app",
    )  # fmt: skip
    with servers.running(command, port, directory, env=environment):
        yield f"127.0.0.1:{port}"


def leave_early(address):
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as browser:
        browser.sendall(b"GET /ask?question=hi HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in browser.recv(65536)


def live(address, way, reopen, prometheus):
    """All that an application sees in a day, each once Prometheus has seen what was before: what
    was counted before the first scrape has no rate."""
    with llmpool.Pool() as pool:
        client = llmpool.Client(base_url=f"http://{address}", pool=pool, timeout=60)

        def asked():
            return client.get("/ask", params={"question": "hi"}).status_code

        assert asked() == 200
        assert prometheus.has("llmpool_first_token_seconds_count > 0")
        way.close()
        assert prometheus.has("sum(llmpool_close_reasons_total) > 0")
        assert asked() == 502
        assert prometheus.has("sum(llmpool_failure_reasons_total) > 0")
        reopen()
        assert servers.wait_until(lambda: asked() == 200, 60)

        def has_left():  # an answer may be at its end before the browser's leaving is seen
            leave_early(address)
            return prometheus.values("llmpool_requests_cancelled_total > 0")

        assert servers.wait_until(has_left, 60, 0.2)
        assert prometheus.has("increase(llmpool_first_token_seconds_count[5m]) > 0")


@pytest.fixture(scope="module")
def scraped(tokens, tmp_path_factory):
    """A Prometheus that has seen the example live."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    directory = tmp_path_factory.mktemp("dashboard")
    server = int(tokens.url.rsplit(":", 1)[1])
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as way:
        first = way.enter_context(forwarder(server))
        address = stack.enter_context(application(tokens, first.port, directory))
        prometheus = Prometheus(directory, address, RULES)
        stack.enter_context(prometheus.run())

        def reopen():
            stack.enter_context(forwarder(server, first.port))

        live(address, way, reopen, prometheus)
        yield prometheus


# ---- the tests


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_query_of_a_panel_has_data(panel, scraped):
    assert panel["targets"]
    for target in panel["targets"]:
        query = filled_in(target["expr"])
        assert scraped.has(query), query


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable["name"])
def test_every_choice_has_something_to_choose(variable, scraped):
    series, label = re.fullmatch(
        r"label_values\((.*), (\w+)\)", variable["query"]["query"]
    ).groups()
    found = scraped.get(f"label/{label}/values", **{"match[]": filled_in(series)})
    assert found and all(found)


def test_what_is_chosen_is_what_is_shown(scraped):
    """A query that minds no variable would show every process."""
    for panel in PANELS:
        for target in panel["targets"]:
            query = target["expr"].replace("$instance", "no such process")
            assert scraped.values(filled_in(query)) == [], query


def test_the_rules_are_evaluated(scraped):
    def rules():
        return [rule for group in scraped.get("rules")["groups"] for rule in group["rules"]]

    assert servers.wait_until(lambda: all(rule["health"] == "ok" for rule in rules()), 30, 0.2)
    names = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    assert {rule["name"] for rule in rules() if rule["type"] == "alerting"} == names


def test_the_scrape_is_whole(scraped):
    (target,) = scraped.get("targets")["activeTargets"]
    assert target["health"] == "up" and target["lastError"] == ""
    assert scraped.values("scrape_samples_scraped > 100")


def test_panels_lie_beside_each_other():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken and all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_every_panel_says_what_it_shows():
    for panel in PANELS:
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
