"""What other clients have and this one does not: what to write instead."""

from typing import Any, Mapping, NoReturn

from .._http.urls import UNIX_ADVICE
from .._pool.pool import OPTION_NAMES

_POOL_ARGUMENTS = frozenset(("limits", *OPTION_NAMES))

_AUTH = (
    "send it as a header, headers={'authorization': f'Bearer {key}'}; for a user name and a "
    "password 'Basic ' + base64.b64encode(b'user:password').decode()"
)
_COOKIES = "cookies are not stored; send one as a header, headers={'cookie': 'name=value'}"
_HOOKS = (
    "call your own function around request(); the logger 'llmpool' and llmpool.metrics() tell what "
    "the pool does"
)
_OF_CLIENTS = {
    "auth": _AUTH,
    "cookies": _COOKIES,
    "event_hooks": _HOOKS,
    "uds": UNIX_ADVICE,
    "trust_env": "proxy='' of a pool has it ignore the proxies of the environment",
    "mounts": "give each client a pool of its own where they need other proxies or certificates",
    "transport": "tests have llmpool.mock, and llmpool.Response(200, json={...}) for a fake client",
    "app": "serve the application on 127.0.0.1, or test it with its framework's own client",
    "http_versions": "a pool has http1= and http2=",
    "max_redirects": "it is 20",
    "default_encoding": "assign response.encoding",
}
# Names that others have for options of a pool.
_RENAMED = {"cert": "client_cert", "proxies": "proxy", "retries": "max_retries"}
_OF_REQUESTS = {
    "stream": "with client.stream(method, url, ...) as response: ...",
    "allow_redirects": "follow_redirects=",
    "auth": _AUTH,
    "cookies": _COOKIES,
    "hooks": _HOOKS,
    "event_hooks": _HOOKS,
    "body": "content= for bytes, json= for a value",
    "query": "params=",
    "form": "data=",
    "raise_for_status": "client.request(...).raise_for_status()",
    "extensions": "timeout= and priority= are arguments of their own",
}


def refuse_client_argument(client: str, name: str) -> NoReturn:
    """Of a client: TypeError that says where it belongs."""
    option = _RENAMED.get(name, name)
    if option in _POOL_ARGUMENTS:
        called = "" if option == name else f" is called {option} here and"
        raise TypeError(
            f"{name}{called} belongs to a pool, not to a client: set it for the pool that the "
            f"whole process shares, llmpool.configure({option}=...), or give this client a pool of "
            f"its own, llmpool.{client}(pool=llmpool.Pool({option}=...))"
        )
    instead = _OF_CLIENTS.get(name)
    raise TypeError(f"{client}() has no argument {name!r}" + (f": {instead}" if instead else ""))


def refuse_arguments(unsupported: Mapping[str, Any]) -> NoReturn:
    """Of a request: TypeError that says what to write instead."""
    name = next(iter(unsupported))
    instead = _OF_REQUESTS.get(name)
    option = _RENAMED.get(name, name)
    if instead is None and option in _POOL_ARGUMENTS:
        instead = f"it belongs to a pool, llmpool.configure({option}=...), not to a request"
    message = f"a request has no argument {name!r}" + (f": {instead}" if instead else "")
    raise TypeError(message)


def not_entered(keyword: str, name: str) -> NoReturn:
    """AttributeError for what a response has, asked of a stream that was not begun."""
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"a stream has no {name!r} before its block begins: {keyword} client.stream(...) as "
        f"response: response.{name}"
    )
