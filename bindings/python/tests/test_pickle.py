"""What is copied, and what goes to another process: never handles, keys with clients alone."""

import asyncio
import concurrent.futures
import copy
import inspect
import multiprocessing
import pickle

import pytest
import servers

import llmpool

KEY = "sk-very-secret-0123456789"
COOKIE = "session-cookie-value"
HEADERS = {"authorization": f"Bearer {KEY}", "x-api-key": KEY, "x-my-token": KEY, "a": "shown"}
QUERY = {"key": KEY, "page": "2"}


def answers(connection, _):
    buffer = b""
    while True:
        head, _, buffer = servers.read_request(connection, buffer)
        path = head.split(b" ")[1]
        status = b"404 Not Found" if path.startswith(b"/missing") else b"200 OK"
        moved = b""
        if path.startswith(b"/moved"):
            status, moved = b"302 Found", f"location: /there?key={KEY}\r\n".encode()
        connection.sendall(
            b"HTTP/1.1 " + status + b"\r\nset-cookie: a=" + COOKIE.encode() + b"\r\n" + moved
            + b"x-request-id: r1\r\ncontent-length: 2\r\n\r\nok"
        )  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with servers.RawServer(answers) as server:
        yield server


@pytest.fixture
def client(server, open_client):
    client = open_client(server.url, headers=HEADERS)
    client.follow_redirects = True
    return client


def dumped(value, protocol=pickle.HIGHEST_PROTOCOL):
    """Pickled, and no secret in it."""
    data = pickle.dumps(value, protocol)
    for secret in (KEY, COOKIE):
        assert secret.encode() not in data
    return pickle.loads(data)


PROTOCOLS = pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))


# ---- answers and errors


@PROTOCOLS
def test_a_response(protocol, client):
    answer = client.post("/moved", json={"b": 1}, params=QUERY)
    assert answer.history and answer.headers["set-cookie"].endswith(COOKIE)
    other = dumped(answer, protocol)
    assert (other.status_code, other.content, other.text) == (200, b"ok", "ok")
    assert other.headers["x-request-id"] == "r1" and "set-cookie" not in other.headers
    assert other.request.headers["a"] == "shown" and "authorization" not in other.request.headers
    assert other.history[0].status_code == 302 and other.history[0].request.content == b'{"b":1}'
    assert str(other.history[0].url).endswith("/moved?key=[secure]&page=[secure]")
    assert other.timings == answer.timings and other.peer == answer.peer
    assert other.raise_for_status() is other
    assert dumped(other).content == b"ok"  # again
    # The one that was pickled has what it had.
    assert answer.request.headers["x-api-key"] == KEY and answer.url.endswith(f"key={KEY}")


@PROTOCOLS
def test_errors(protocol, client, open_client):
    errors = []
    for call in (
        lambda: client.get("/missing", params=QUERY).raise_for_status(),
        lambda: open_client(f"http://127.0.0.1:{servers.free_port()}", headers=HEADERS).get(
            "/", params=QUERY
        ),
        lambda: client.get("/", headers={"x y": "z"}),
        lambda: client.get("http://"),
    ):
        with pytest.raises((llmpool.HTTPError, llmpool.InvalidURL)) as caught:
            call()
        errors.append(caught.value)
    for error in errors:
        other = dumped(error, protocol)
        assert type(other) is type(error)
        assert str(other).replace("[secure]", "") == str(error).replace(KEY, "").replace(
            "page=2", "page="
        ).replace("[secure]", "")
        for name in ("status", "unseen"):
            assert getattr(other, name, None) == getattr(error, name, None)
    other = dumped(errors[0], protocol)
    assert other.response.content == b"ok" and other.response.request.method == "GET"
    assert dumped(errors[1], protocol).request.url.startswith("http://127.0.0.1")


def test_every_exception():
    request = llmpool.get.__globals__["Client"]()._prepare(
        "GET", f"http://a/?k={KEY}", *[None] * 5, HEADERS, None, 0, None, None
    ).request  # fmt: skip
    for name in llmpool.__all__:
        kind = getattr(llmpool, name)
        if not inspect.isclass(kind) or not issubclass(kind, Exception):
            continue
        if issubclass(kind, llmpool.HTTPStatusError):
            error = kind("m", request=request, response=llmpool.Response(500, request=request))
        elif issubclass(kind, llmpool.HTTPError):
            error = kind("m", request=request, status="LLMPOOL_E_READ", unseen=True)
        else:
            error = kind("m")
        error.note = "kept"
        for other in (dumped(error), copy.copy(error), copy.deepcopy(error)):
            assert type(other) is kind and str(other) == "m" and other.note == "kept"
            assert getattr(other, "unseen", None) == getattr(error, "unseen", None)


def test_an_error_of_a_stream(client):
    with client.stream("GET", "/missing", params=QUERY) as response:
        with pytest.raises(llmpool.HTTPStatusError) as caught:
            response.raise_for_status()
        other = dumped(caught.value)
        assert type(other.response) is llmpool.Response and other.response.status_code == 404
        assert other.response.content == b""
        response.read()
        assert dumped(caught.value).response.content == b"ok"
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="neither pickled nor copied"):
                way(response)


def test_copies_keep_what_they_have(client):
    answer = client.get("/", params=QUERY)
    for way in (copy.copy, copy.deepcopy):
        other = way(answer)
        assert other is not answer and other.content == b"ok"
        assert other.request.headers["authorization"] == f"Bearer {KEY}"
        assert way(answer.request).url == answer.url
    assert copy.deepcopy(answer).history is not answer.history


# ---- pools and clients


def test_the_shared_pool_is_the_shared_pool():
    pool = llmpool.shared()
    for other in (copy.copy(pool), copy.deepcopy(pool), pickle.loads(pickle.dumps(pool))):
        assert other is pool
    assert copy.deepcopy({"a": [pool]})["a"][0] is pool


def test_a_pool_of_ones_own_refuses(open_pool):
    pool = open_pool()
    assert copy.copy(pool) is pool and copy.deepcopy(pool) is pool
    for value in (pool, llmpool.Client(pool=pool), llmpool.AsyncClient(pool=pool)):
        with pytest.raises(TypeError, match=r"belong to this process.*shared pool"):
            pickle.dumps(value)


@pytest.mark.parametrize("kind", [llmpool.Client, llmpool.AsyncClient])
def test_clients(kind, server, open_pool):
    settings = {
        "base_url": server.url, "headers": HEADERS, "params": {"p": "1"}, "timeout": 7,
        "retry": "status", "server_name": "a.example", "max_response_bytes": 99,
        "follow_redirects": True,
    }  # fmt: skip
    pool = open_pool()
    client, own = kind(**settings), kind(**settings, pool=pool)
    client.extra = [1]
    for other in (pickle.loads(pickle.dumps(client)), copy.copy(client), copy.deepcopy(client)):
        assert type(other) is kind and other.pool is llmpool.shared() and other.extra == [1]
        assert other.headers == client.headers and other.base_url == client.base_url
        assert (other.timeout, other.retry) == (client.timeout, client.retry)
        assert other.follow_redirects and other.max_response_bytes == 99 and not other.is_closed
        assert call(other).request.headers["x-api-key"] == KEY
    other = copy.deepcopy(own)
    assert other.pool is pool
    other.headers["x-api-key"] = "another"
    assert call(own).request.headers["x-api-key"] == KEY
    del own, other


def call(client):
    if isinstance(client, llmpool.AsyncClient):
        return asyncio.run(client.get("/"))
    return client.get("/")


def test_what_is_begun_refuses(server):
    for value in (
        llmpool.Client().stream("GET", server.url),
        llmpool.AsyncClient().stream("GET", server.url),
        llmpool.options(priority=1),
        llmpool.BudgetRequest("GET", server.url, b"authorization: Bearer sk-x", None),
    ):
        for way in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled"):
                way(value)


def test_a_budget(server):
    budget = llmpool.Budget("pickled", requests_per_minute=5, burst=2, max_concurrent=3)
    for other in (pickle.loads(pickle.dumps(budget)), copy.copy(budget), copy.deepcopy(budget)):
        assert (other.name, other._limits, other._burst, other._concurrent) == (
            budget.name, budget._limits, budget._burst, budget._concurrent,
        )  # fmt: skip
    assert pickle.loads(pickle.dumps(llmpool.Client(budget=budget))).budget.name == "pickled"


def test_an_automatic_budget():
    """The one of each process is that of the process; one with a secret stays where it is."""
    client = llmpool.Client(budget=llmpool.auto_budget)
    assert dumped(client).budget is llmpool.auto_budget
    assert copy.deepcopy(llmpool.auto_budget) is copy.copy(llmpool.auto_budget)
    ours = llmpool.AutoBudget(secret=KEY)
    assert copy.copy(ours) is ours and copy.deepcopy(ours) is ours
    for value in (ours, llmpool.Client(budget=ours), llmpool.AutoBudget()):
        with pytest.raises(TypeError, match="an AutoBudget has a secret and cannot be pickled"):
            pickle.dumps(value)


def test_values():
    for value in (
        llmpool.URL("http://a/b?c=d"),
        llmpool.Headers({"a": "b"}),
        llmpool.Breaker(5, statuses=(502, 503)),
        llmpool.Limits(max_connections=3, keepalive_expiry=None),
        llmpool.Timeout(5, read=None),
        llmpool.Retry(status=True),
        llmpool.Event("a", "b", "c", 1),
        llmpool.Timings(),
        llmpool.stats(),
        llmpool.Spending("b", 1, 2),
        llmpool.BudgetLimit("tokens", 1, 2.0, 3, 4.0, True),
        llmpool.BudgetState((), 1, 2, 3.0, 4, None, 5),
        llmpool.Reasons({"idle": 1}, {}, {}),
        llmpool.RequestState(1, 2, "https://h:443", "waiting", 0.5, 1, 2, 0),
        llmpool.shared().histograms()["total"],
    ):
        for other in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
            assert other == value and type(other) is type(value)


def test_this_file_knows_every_public_class():
    """A class that is added is to be pickled, copied or refused knowingly."""
    seen = {
        "AsyncClient", "AsyncStream", "AsyncStreamResponse", "AutoBudget", "Breaker", "Budget",
        "BudgetLimit", "BudgetRequest", "BudgetState", "Client", "Event", "Headers", "Histogram",
        "Limits", "Pool", "Reasons", "Request", "RequestState", "Response", "Retry", "Spending",
        "Stats", "Stream", "StreamResponse", "Timeout", "Timings", "URL", "options",
    }  # fmt: skip
    classes = {name for name in llmpool.__all__ if inspect.isclass(getattr(llmpool, name))}
    errors = {name for name in classes if issubclass(getattr(llmpool, name), Exception)}
    assert classes - errors == seen


# ---- other processes


def work(client, path):
    answer = client.get(path)
    answer.raise_for_status()
    return answer.content, answer


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_in_another_process(method, server):
    """As multiprocessing, joblib and Ray do it: the client goes, the answer or the error comes."""
    client = llmpool.Client(base_url=server.url, headers=HEADERS)
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        content, answer = executor.submit(work, client, "/").result(60)
        assert content == b"ok" and answer.headers["x-request-id"] == "r1"
        with pytest.raises(llmpool.HTTPStatusError) as caught:
            executor.submit(work, client, "/missing").result(60)
        assert caught.value.response.content == b"ok"
