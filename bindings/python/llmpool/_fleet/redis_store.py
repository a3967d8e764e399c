"""Redis, Valkey or KeyDB as the store of a fleet: a script there decides, one call an ask."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from .._http import secrets
from .demand import ANY_NUMBER, Demand, Grant, StoreAway, StoreRefused
from .leases import label_of

_PARTS = ("state", "members", "ends", "gone", "high", "normal", "low")
# Of a budget that there is not: what checks whether the script may run.
_CHECKED = "check"
_MOST_MILLISECONDS = 3_600_000
# llmpool_budget_grant() takes none that is valid for longer.
_LONGEST_LEASE = 600_000


class Redis:
    """A store on redis-py, which `pip install 'libllmpool[redis]'` brings.

        llmpool.fleet.join(llmpool.fleet.Redis("rediss://cache.internal"), expected_members=8)

    Args:
        url: redis://, rediss:// (TLS) or unix://, as redis.Redis.from_url() takes it; or a client
            of redis-py, for Sentinel and Cluster, whose own timeouts hold then.
        prefix: what its keys begin with. Members of one fleet have the same.
        lease: seconds; how long what is lent holds without a word of the store.
        timeout: seconds of a call until the store counts as away.
        options: any of redis.Redis.from_url().

    Raises:
        ImportError: redis-py is missing.
        ValueError: the URL is none, an argument is out of its range.
    """

    __module__ = "llmpool.fleet"

    def __init__(
        self,
        url: Any,
        *,
        prefix: str = "llmpool",
        lease: float = 2.0,
        timeout: float = 0.25,
        **options: Any,
    ) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix is a str, not {type(prefix).__name__}")
        if not prefix or set(prefix) & set("{}"):
            raise ValueError("prefix is a text without braces, which would change the hash tag")
        self._prefix = prefix
        self._lease = _milliseconds("lease", lease, 200, _LONGEST_LEASE)
        self._timeout = _milliseconds("timeout", timeout, 1) / 1000
        self._url: Optional[str] = url if isinstance(url, str) else None
        self._options = options
        self._redis = _library()
        self._client: Any = None
        self._made_in = os.getpid()
        if self._url is not None:
            self._client = self._connect()
        else:
            self._client = _checked_client(url, options)
        self._prepare()

    def _connect(self) -> Any:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # Of a connection that was closed while nobody used it the next call would know nothing.
        retry = Retry(NoBackoff(), 1, supported_errors=(self._redis.ConnectionError,))
        settings: Dict[str, Any] = {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": retry,
            **self._options,
        }
        if "#" in str(self._url):  # it and what follows would not be read: the host, for one
            raise ValueError(f"there is a # in the URL: {_QUOTED}")
        try:
            return self._redis.Redis.from_url(self._url, **settings)
        except ValueError as error:
            text = secrets.text(str(error))
            if "Port" in text:  # it says as much of a password as it took for the port
                text = f"no port can be read from the URL: {_QUOTED}"
            raise ValueError(text) from None

    def _prepare(self) -> None:
        exceptions = self._redis.exceptions
        self._away = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
        self._script = self._client.register_script(_text())
        self._is_cluster = isinstance(self._client, self._redis.RedisCluster)

    def _forked(self) -> None:
        """In a child: what it was connected with is the parent's."""
        if self._made_in != os.getpid() and self._url is not None:
            self._made_in = os.getpid()
            self._client = self._connect()
            self._prepare()

    # ---- what a member asks

    def check(self) -> None:
        """Asks for nothing, as members will ask.

        Raises:
            StoreRefused: it says that it never will.
            StoreAway: it does not answer.
        """
        self._run_any([(self._keys(_CHECKED), ["status", "", 0])])

    def lend(self, member: str, asks: List[Tuple[str, Demand]]) -> List[Union[Grant, StoreAway]]:
        replies = self._run_any([self._call("ask", member, *each) for each in asks])
        return [
            StoreAway(_words(reply)) if isinstance(reply, Exception) else _grant(reply)
            for reply in replies
        ]

    def leave(self, member: str, asks: List[Tuple[str, Demand]]) -> None:
        self._run_any([self._call("leave", member, *each) for each in asks])

    def _keys(self, name: str) -> List[str]:
        digits = hashlib.sha256(name.encode("utf-8")).hexdigest()[:32]
        return [f"{self._prefix}:{{{digits}}}:{part}" for part in _PARTS]

    def _call(self, verb: str, member: str, name: str, demand: Demand) -> Tuple[Any, Any]:
        numbers = [number for limit in demand.limits for number in limit]
        arguments = [verb, member, 0, self._lease, label_of(name), *demand[:-1], *numbers]
        return self._keys(name), arguments

    def _run_any(self, calls: List[Tuple[List[str], List[Any]]]) -> List[Any]:
        """The replies, as _run() has them. Raises where all are errors."""
        replies = self._run(calls)
        if all(isinstance(reply, Exception) for reply in replies):
            raise self._failure(replies[0])
        return replies

    def _run(self, calls: List[Tuple[List[str], List[Any]]]) -> List[Any]:
        """The replies. That of one may be an error, which is about its keys."""
        self._forked()
        try:
            one_by_one = self._is_cluster or len(calls) == 1
            return self._run_each(calls) if one_by_one else self._run_together(calls)
        except self._away as error:
            raise self._failure(error) from None

    def _run_each(self, calls: List[Tuple[List[str], List[Any]]]) -> List[Any]:
        replies: List[Any] = []
        for keys, arguments in calls:
            try:
                replies.append(self._script(keys=keys, args=arguments))
            except self._redis.exceptions.ResponseError as error:
                replies.append(error)
        return replies

    def _run_together(self, calls: List[Tuple[List[str], List[Any]]]) -> List[Any]:
        """On one way there and back."""
        pipe = self._client.pipeline(transaction=False)
        for keys, arguments in calls:
            pipe.evalsha(self._script.sha, len(keys), *keys, *arguments)
        replies = pipe.execute(raise_on_error=False)
        for index, reply in enumerate(replies):
            if isinstance(reply, self._redis.exceptions.NoScriptError):
                keys, arguments = calls[index]
                replies[index] = self._script(keys=keys, args=arguments)
            elif isinstance(reply, Exception) and not isinstance(
                reply, self._redis.exceptions.ResponseError
            ):
                raise reply
        return replies  # type: ignore[no-any-return]

    def _failure(self, error: Exception) -> Exception:
        exceptions = self._redis.exceptions
        text = _words(error)
        refusals = (exceptions.AuthenticationError, exceptions.NoPermissionError)
        if isinstance(error, refusals) or any(each in text for each in _REFUSALS):
            return StoreRefused(f"{self!r}: {text}")
        return StoreAway(text)

    # ---- what is there, for people

    def status(self, odd: Optional[List[str]] = None) -> List[Dict[str, Any]]:
        """Each budget as it stands.

        Args:
            odd: gets a line for each key that has the name of a budget, and is none.

        Raises:
            StoreRefused, StoreAway: as check().
        """
        found = []
        for state in self._states():
            name = state.decode("utf-8", "backslashreplace") if isinstance(state, bytes) else state
            keys = [f"{name[: -len(_PARTS[0])]}{part}" for part in _PARTS]
            (reply,) = self._run([(keys, ["status", "", 0])])
            if isinstance(reply, Exception):
                failure = self._failure(reply)
                if isinstance(failure, StoreRefused):
                    raise failure
                if odd is not None:
                    odd.append(f"{name}: no state of a budget ({failure})")
            elif reply is not None:  # it has ended since
                found.append(_as_lists(json.loads(reply)))
        return sorted(found, key=lambda budget: str(budget["label"]))

    def _states(self) -> Iterator[Any]:
        pattern = f"{_literally(self._prefix)}:{{*}}:{_PARTS[0]}"
        try:
            yield from set(self._client.scan_iter(match=pattern, count=1000))
        except self._away as error:
            raise self._failure(error) from None

    def __repr__(self) -> str:
        return f"<llmpool.fleet.Redis {'a client' if self._url is None else _place(self._url)}>"


_QUOTED = "in a password / is %2F, # is %23, ? is %3F"
# What no later answer of a store changes, in its words or in OpenSSL's.
_REFUSALS = ("DB index is out of range", "invalid DB index", "CERTIFICATE_VERIFY_FAILED")


def _library() -> Any:
    try:
        import redis
        import redis.cluster
    except ImportError as error:
        raise ImportError(
            "llmpool.fleet.Redis needs redis-py: pip install 'libllmpool[redis]'"
        ) from error
    return redis


def _words(error: Exception) -> str:
    return secrets.text(" ".join(str(error).split())) or type(error).__name__


def _place(url: str) -> str:
    """Without what stands before its last "@": redis-py takes blanks and quotes in a password."""
    scheme, mark, rest = url.partition("?")[0].partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{secrets.HIDDEN + at if at else ''}{secrets.text(host)}"


def _text() -> str:
    return Path(__file__).with_name("lease.lua").read_text(encoding="utf-8")


def _milliseconds(name: str, seconds: Any, least: int, most: int = _MOST_MILLISECONDS) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {type(seconds).__name__}")
    if not least <= seconds * 1000 <= most:
        raise ValueError(f"{name} is from {least / 1000} to {most // 1000} seconds")
    return round(seconds * 1000)


def _checked_client(client: Any, options: Dict[str, Any]) -> Any:
    import inspect

    if options:
        raise TypeError(f"{next(iter(options))} is an option for a URL: a client has its own")
    run = getattr(client, "evalsha", None)
    is_async = "asyncio" in type(client).__module__ or inspect.iscoroutinefunction(run)
    if run is None or is_async:
        raise TypeError(
            f"url is a str or a client of redis-py, not of its asyncio, not {type(client).__name__}"
        )
    return client


def _grant(reply: List[int]) -> Grant:
    valid, members, places, stopped = reply[:4]
    limits = tuple((reply[at], reply[at + 1]) for at in range(4, len(reply), 2))
    return Grant(valid, members, ANY_NUMBER if places < 0 else places, stopped, limits)


def _as_lists(shown: Dict[str, Any]) -> Dict[str, Any]:
    """What is empty comes as an object: Lua does not tell them apart."""
    for name in ("limits", "members"):
        shown[name] = shown[name] or []
    for member in shown["members"]:
        member["loans"] = member["loans"] or []
    return shown


def _literally(text: str) -> str:
    """For a pattern of Redis."""
    return "".join(f"\\{each}" if each in "*?[]\\" else each for each in text)
