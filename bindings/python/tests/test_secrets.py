"""No secret is shown: in no repr, no str, no message of an error."""

import inspect
import json
import logging
import pickle
import time
import traceback

import pytest
import servers

import llmpool
from llmpool._http import secrets
from llmpool._http.models import Request, Response
from llmpool._http.urls import redirected, resolve

# Each where a credential stands, in a request or an answer.
QUERY, USER, PASSWORD = "q-7f3kQ9", "u-Zk31aa", "p-88xYdW"
HEADERS = {
    "authorization": "Bearer h-1aB2c3D4",
    "Proxy-Authorization": "Basic aC0yYUIyYzNENDpo",
    "x-api-key": "h-3aB2c3D4",
    "api-key": "h-4aB2c3D4",
    "x-goog-api-key": "h-5aB2c3D4",
    "Cookie": "session=h-6aB2c3D4; other=h-7aB2c3D4",
    "Ocp-Apim-Subscription-Key": "h-8aB2c3D4",
    "X-Auth-Token": "h-9aB2c3D4",
    "x-amz-security-token": "h-10aB2c3D4",
    "x-anything": "Bearer h-11aB2c3D4",
    "x-proj": "sk-proj-h12aB2c3D4",
    "referer": f"https://{USER}:{PASSWORD}@h/?key={QUERY}",
}
PLANTED = [
    QUERY, USER, PASSWORD, "aC0yYUIyYzNENDpo", "h12aB2c3D4",
    *(f"h-{n}aB2c3D4" for n in (1, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
]  # fmt: skip
URL = f"https://h.example/v1/x?key={QUERY}&alt={QUERY}"
# What a server may say: the request again.
ECHO = json.dumps({"error": {"message": f"wrong: {HEADERS} at {URL}"}}).encode()


def shows(*objects):
    """What of the planted is in the texts of the objects."""
    text = "".join(f"{each!r} {each}" if not isinstance(each, str) else each for each in objects)
    return [planted for planted in PLANTED if planted in text]


def request():
    return Request("GET", llmpool.URL(URL), HEADERS)


def answer(status=404, body=ECHO, **headers):
    headers = {**HEADERS, "location": URL, "set-cookie": "sid=" + "h-6aB2c3D4", **headers}
    return Response(status, content=body, headers=headers, request=request())


# A maker for each public class; what its str() is for is not hidden there: str(url) is sent.
EVENT = llmpool.Event(data="x")
MADE = {
    "options": None,  # numbers
    "URL": lambda: repr(llmpool.URL(f"https://{USER}:{PASSWORD}@h/p?key={QUERY}#token={QUERY}")),
    "Headers": lambda: llmpool.Headers(HEADERS),
    "Request": request,
    "Response": answer,
    "Event": lambda: EVENT,
    "Breaker": llmpool.Breaker,
    "Limits": llmpool.Limits,
    "Timeout": lambda: llmpool.Timeout(1),
    "Timings": lambda: llmpool.Timings(),
    "Stats": lambda: llmpool.stats(),
    "Pool": lambda: llmpool.shared(),
    "Client": lambda: llmpool.Client(base_url="https://h/v1", headers=HEADERS, params={"k": QUERY}),
    "AsyncClient": lambda: llmpool.AsyncClient(headers=HEADERS, params={"k": QUERY}),
    "Retry": lambda: llmpool.Retry(),
    "AutoBudget": lambda: llmpool.AutoBudget(secret=QUERY),
    "Budget": lambda: llmpool.Budget("b"),
    "BudgetLimit": lambda: llmpool.BudgetLimit("tokens", 1, 2.0, 3, 4.0, True),
    "BudgetRequest": lambda: llmpool.BudgetRequest("GET", URL, str(HEADERS).encode(), None),
    "BudgetState": lambda: llmpool.BudgetState((), 1, 2, 3.0, 4, None, 5),
    "Spending": lambda: llmpool.auto_budget(
        llmpool.BudgetRequest(
            "POST",
            f"https://{USER}:{PASSWORD}@h/v1?key={QUERY}",
            "".join(f"{name}: {value}\r\n" for name, value in dict(HEADERS).items()).encode(),
            b'{"model": "m"}',
        )
    ),
    "Histogram": llmpool.Histogram,
    "Reasons": lambda: llmpool.Reasons({}, {}, {}),
    "RequestState": lambda: llmpool.RequestState(1, 2, "https://h:443", "waiting", 0.5, 1, 2, 0),
    "Stream": lambda: llmpool.Client(headers=HEADERS).stream("GET", URL),
    "AsyncStream": lambda: llmpool.AsyncClient(headers=HEADERS).stream("GET", URL),
    "StreamResponse": None,  # below, with a server
    "AsyncStreamResponse": None,
}


def public_classes():
    found = {name: getattr(llmpool, name) for name in llmpool.__all__}
    return {name: each for name, each in found.items() if inspect.isclass(each)}


@pytest.mark.parametrize("name", sorted(public_classes()))
def test_texts_of_public_objects(name):
    kind = public_classes()[name]
    message = f"failed at {URL}, https://{USER}:{PASSWORD}@h/: {HEADERS}"
    if issubclass(kind, llmpool.HTTPStatusError):
        made = kind(message, request=request(), response=answer())
    elif issubclass(kind, llmpool.HTTPError):
        made = kind(message, request=request())
    elif issubclass(kind, llmpool.InvalidURL):
        made = kind(f"failed at {URL}, https://{USER}:{PASSWORD}@h/, {USER}:{PASSWORD}@h")
    elif issubclass(kind, Exception):
        return  # StreamError and its kinds, whose texts are ours alone
    else:
        assert name in MADE, f"{name} is new: how is one made that holds secrets?"
        if MADE[name] is None:
            return
        made = MADE[name]()
    assert shows(made) == []


def error_of(function):
    with pytest.raises(Exception) as caught:
        function()
    return "".join(traceback.format_exception_only(caught.type, caught.value)), caught.value


@pytest.mark.parametrize(
    "function",
    [
        lambda: answer(404).raise_for_status(),
        lambda: answer(302).raise_for_status(),
        lambda: answer(500, body=URL.encode()).raise_for_status(),
        lambda: answer(500, body=f"<title>{URL}</title>".encode()).raise_for_status(),
        lambda: answer(200, body=f"Your key: {HEADERS['x-api-key']}".encode()).json(),
        lambda: answer(200, body=b"junk", **{"content-type": URL}).json(),
        lambda: llmpool.Event(data=f"Bearer {QUERY}").json(),
        lambda: llmpool.AutoBudget(secret=[QUERY]),
        lambda: pickle.dumps(llmpool.AutoBudget(secret=QUERY)),
        lambda: llmpool.Client(base_url=URL),
        lambda: llmpool.Client(base_url=f"h/?key={QUERY}"),
        lambda: llmpool.Client(base_url=f"//{USER}:{PASSWORD}@h/"),
        lambda: llmpool.Client(base_url=f"{USER}:{PASSWORD}@h/"),
        lambda: llmpool.get(f"/path?key={QUERY}"),
        lambda: llmpool.get(f"https://{USER}:{PASSWORD}@h/"),
        lambda: llmpool.get(f"https://{USER}:{PASSWORD}@h:port/"),
        lambda: llmpool.get(f"https://h:{PASSWORD}/"),
        lambda: llmpool.get(f"https://{USER}\u2100:{PASSWORD}@h/"),
        lambda: llmpool.get(f"ftp://{USER}:{PASSWORD}@h/?key={QUERY}"),
        lambda: redirected(llmpool.URL("https://h/"), f"ftp://{USER}:{PASSWORD}@h/?k={QUERY}"),
        lambda: redirected(llmpool.URL("https://h/"), f"https://{USER}:{PASSWORD}@h/?k={QUERY}"),
        lambda: resolve("", f"https://h/?k={QUERY}\0", None),
        lambda: llmpool.Client(headers={"authorization": "Bearer h-1aB2c3D4\n"}),
        lambda: llmpool.Client(headers={"authorization": "Bearer h-1aB2c3D4ü"}),
        lambda: llmpool.Client(headers={"authorization: Bearer h-1aB2c3D4": ""}),
        lambda: llmpool.Client(headers={"x-api-key": ["h-3aB2c3D4"]}),
        lambda: llmpool.Pool(proxy=f"ftp://{USER}:{PASSWORD}@127.0.0.1:1"),
        lambda: llmpool.Pool(proxy=f"http://{USER}:{PASSWORD}@127.0.0.1:port"),
        lambda: llmpool.Pool(proxy=f"https://{USER}:{PASSWORD}@127.0.0.1:1"),
        lambda: llmpool.Pool(ca_file=f"/none?token={QUERY}"),
        lambda: llmpool.warm(f"ftp://{USER}:{PASSWORD}@h/?key={QUERY}"),
        lambda: llmpool.warm(f"https://{USER}:{PASSWORD}@h/?key={QUERY}"),
        lambda: llmpool.stats(f"https://{USER}:{PASSWORD}@h/?key={QUERY}"),
    ],
)
def test_messages(function):
    text, error = error_of(function)
    assert shows(text, error) == []


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_messages_of_the_library(scheme):
    dead = servers.free_port()
    with llmpool.Pool(
        proxy=f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{dead}", max_retries=0
    ) as pool:
        client = llmpool.Client(pool=pool, headers=HEADERS, timeout=5)
        text, error = error_of(lambda: client.get(URL.replace("https", "http")))
        assert isinstance(error, llmpool.TransportError)
        assert shows(text, error, error.request, pool, client) == []


def test_streams(open_client, caplog):
    def handle(connection, _):
        buffer = b""
        kind = b"content-type: application/json\r\n"
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            servers.answer(connection, ECHO, kind, b"401 Unauthorized")

    with servers.RawServer(handle) as server, caplog.at_level(logging.DEBUG):
        client = open_client(server.url, headers=HEADERS)
        for _ in range(2):
            with client.stream("GET", f"/x?key={QUERY}") as response:
                text, error = error_of(response.raise_for_status)
                assert "wrong" in text  # it has what the server said
                assert shows(text, error, response, response.request) == []
    assert shows(caplog.text) == []


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens: 100000 > 8192, which is the maximum for this model",
        "Missing bearer or basic authentication in header",
        "the model `gpt-4o-mini-2024-07-18` does not exist (req_011CSHoEeqs5C35K2UUqR7Fy)",
        "0b7e2d3e-9f4c-4f53-bb1c-8dd6a4ad2c11: connection to 127.0.0.1:443 refused",
        "This model's maximum context length is 8192 tokens: see https://h/docs#tokens",
        "/etc/ssl/certs/ca-certificates.crt: no such file",
        "task-force of sk-learn, token limit: 5, secret agents",
    ],
)
def test_what_is_none_is_shown(text):
    assert secrets.text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-abcd1234.", "{'password': 'hunter2'}", "token=abc",
        "Authorization: Bearer abcdef", "Basic dXNlcjpwYXNz", "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "x /p?sig=abc&b=c",
        "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGhIj", "redis://:pw@h/0", "https://h/?abc",
    ],
)  # fmt: skip
def test_what_looks_like_one_is_hidden(text):
    once = secrets.text(text)
    assert secrets.HIDDEN in once and secrets.text(once) == once


@pytest.mark.parametrize(
    "name, secret",
    [
        ("Authorization", True), ("X-Api-Key", True), ("Set-Cookie", True), ("my-token", True),
        ("Mcp-Session-Id", True), ("apikey", True), ("x-accesstoken", True),
        ("idempotency-key", False), ("www-authenticate", False), ("content-type", False),
        ("x-ratelimit-remaining-tokens", False), ("openai-organization", False), ("monkey", False),
    ],
)  # fmt: skip
def test_names(name, secret):
    assert secrets.is_secret(name) is secret
    assert (secrets.header(name, "some value") == secrets.HIDDEN) is secret


@pytest.mark.parametrize(
    "text",
    ["a", "://", "?a=", "@", "Bearer ", "a:", "token=", "cookie: ", "aA1-", "sk-", "http://"],
)
def test_long_texts_are_short_work(text):
    began = time.process_time()
    secrets.text(text * 1_000_000)
    assert time.process_time() - began < 2  # 4 KiB take milliseconds
