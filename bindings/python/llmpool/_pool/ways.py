"""Which pool a transport uses: one for each way to connect, shared by all who ask for it.

A way is whom to trust, which certificate to show, through which proxy, and in which versions of
HTTP. Who asks for the way of the shared pool has the shared pool.
"""

import _thread
import os
import sys
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, Hashable, List, NamedTuple, Optional, Tuple

from .._http.config import Limits
from .._native import abi
from .pool import Pool, _versions, shared, with_options_of_shared
from .trust import (
    ANYBODY,
    SYSTEM,
    Cert,
    Verify,
    certificate_key,
    client_certificate,
    trust,
)

# Seconds that a pool is kept which nobody uses, where its limits do not say otherwise.
_KEPT = 30.0
# The longest sleep of whoever closes what is due.
_STEP = 1.0
_PROXIES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


class Way(NamedTuple):
    """How to connect.

    Attributes:
        key: equal for equal ways.
        options: of a pool that connects like this.
    """

    key: Tuple[Hashable, ...]
    options: Dict[str, Any]


def way(
    *,
    verify: Verify = True,
    cert: Cert = None,
    proxy: str = "",
    http1: bool = True,
    http2: bool = True,
    trust_env: bool = True,
) -> Way:
    """How to connect, in the terms of httpx and requests.

    Args:
        verify: True: the system's store (SSL_CERT_FILE and SSL_CERT_DIR count with trust_env), or
            certifi's where there is none; False: anybody; a file; a directory; an ssl.SSLContext,
            whose CA certificates and verify mode are read.
        cert: a file with certificate and key, or a pair of files.
        proxy: http://, socks5:// or socks5h:// URL; "": none, whatever the environment says.
        http1, http2: which versions to speak.

    Raises:
        ValueError: what a context has cannot be read back; a file has no certificate.
        OSError: a file cannot be read.
        TypeError: verify is something else.
    """
    trusted = trust(verify, trust_env)
    shown = client_certificate(verify, cert)
    options = {
        **trusted.options,
        "proxy": proxy,
        "no_proxy": "",
        "http1": http1,
        "http2": http2,
    }
    if shown is not None:
        options["client_cert"] = shown
    key = (trusted.key, certificate_key(shown), proxy, "", _versions(http1, http2))
    return Way(key, options)


def _way_of(options: abi.Options) -> Tuple[Hashable, ...]:
    """The key of what a pool is configured as."""
    trusted: Hashable = None
    if options.tls_insecure:
        trusted = ANYBODY.key
    elif not (options.ca_file or options.ca_path or options.ca_pem):
        trusted = SYSTEM.key
    elif options.ca_file and not (options.ca_path or options.ca_pem):
        trusted = trust(os.fsdecode(options.ca_file)).key
    proxy, no_proxy = options.proxy, options.no_proxy
    if proxy is None and not any(map(os.environ.get, _PROXIES)):
        proxy = b""
    if not proxy or (no_proxy is None and not os.environ.get("no_proxy")):
        no_proxy = b""
    certificate = None
    if options.client_cert_file:
        files = (options.client_cert_file, options.client_key_file or options.client_cert_file)
        certificate = certificate_key(tuple(map(os.fsdecode, files)))
    return (trusted, certificate, _text(proxy), _text(no_proxy), options.http_versions)


def _text(value: Optional[bytes]) -> Optional[str]:
    return None if value is None else value.decode()


def _is_shared(key: Tuple[Hashable, ...]) -> bool:
    try:
        return bool(with_options_of_shared(lambda options: _way_of(options) == key))
    except (OSError, ValueError):  # a file that was there when the pool was configured
        return False


class _Entry:
    """A pool and who uses it. Changed under the registry's lock.

    Attributes:
        due: when it is to be closed; None while somebody uses it.
    """

    __slots__ = ("key", "options", "keep", "users", "due", "pool", "opening")

    def __init__(self, key: Hashable, options: Dict[str, Any], keep: float) -> None:
        self.key = key
        self.options = options
        self.keep = keep
        self.users = 0
        self.due: Optional[float] = None
        self.pool: Optional[Pool] = None
        self.opening = threading.Lock()

    def open(self) -> Pool:
        """The pool; after a fork another one."""
        with self.opening:
            if self.pool is None:
                self.pool = Pool(**self.options)
            return self.pool


_lock = threading.Lock()
_entries: Dict[Hashable, _Entry] = {}
# Of leases that were collected: that happens on any thread at any moment, when nobody may wait for
# a lock. Whoever has it next sees to them.
_dropped: Deque[_Entry] = deque()
_sweeping = False


class Lease:
    """The use of a pool. It ends with release(), or when nobody has the lease any more; the pool is
    kept for its keepalive_expiry after the last one."""

    __slots__ = ("_entry", "_is_counted", "_alone", "__weakref__")

    def __init__(self, entry: Optional[_Entry], alone: bool = False) -> None:
        self._entry = entry
        self._is_counted = entry is not None
        self._alone = alone

    @property
    def pool(self) -> Pool:
        """After release() it is the same one, which may be closed: never another way."""
        entry = self._entry
        if entry is None:
            return shared()
        return entry.pool or entry.open()

    @property
    def is_alone(self) -> bool:
        """Whether nobody else ever has this pool."""
        return self._alone

    def release(self) -> None:
        """Twice does nothing."""
        is_counted, self._is_counted = self._is_counted, False
        if is_counted and self._entry is not None:
            _dropped.append(self._entry)
            _settle()

    def __del__(self, is_exiting: Any = sys.is_finalizing) -> None:
        if not is_exiting():
            self.release()


def lease(way: Way, limits: Optional[Limits] = None, isolated: bool = False) -> Lease:
    """A pool for this way.

    Args:
        limits: of a pool for this way and these limits; None: as pools have them.
        isolated: a pool that nobody else has.

    Raises:
        ValueError: an option is out of its range, a file cannot be read.
    """
    if isolated:
        key: Hashable = object()
    else:
        if limits is None and _is_shared(way.key):
            return Lease(None)
        key = (way.key, None if limits is None else tuple(sorted(limits._as_options().items())))
    with _lock:
        entry = _entries.get(key)
        if entry is None:
            options = dict(way.options)
            keep = _KEPT
            if limits is not None:
                options["limits"] = limits
                keep = (
                    limits.keepalive_expiry
                    if isinstance(limits.keepalive_expiry, (int, float))
                    else _KEPT
                )
            _entries[key] = entry = _Entry(key, options, 0.0 if isolated else keep)
        entry.users += 1
        entry.due = None
    held = Lease(entry, isolated)
    _settle()
    entry.open()  # what is wrong with it is told here
    return held


def _settle() -> None:
    """Sees to what was dropped, unless somebody else has the lock, who does then."""
    while _dropped and _lock.acquire(blocking=False):
        try:
            _count_out()
        finally:
            _lock.release()


def _count_out() -> None:
    global _sweeping
    now = time.monotonic()
    while _dropped:
        entry = _dropped.popleft()
        entry.users -= 1
        if entry.users == 0:
            entry.due = now + entry.keep
            if not _sweeping:
                try:
                    # Not threading's, whose own locks the thread may hold that this runs on.
                    _thread.start_new_thread(_sweep, ())
                    _sweeping = True
                except RuntimeError:  # the interpreter ends
                    return


def _sweep() -> None:
    """Closes what is due until nothing is; on a thread that is there only then."""
    global _sweeping
    while True:
        with _lock:
            now = time.monotonic()
            waiting = [entry for entry in _entries.values() if entry.due is not None]
            due: List[_Entry] = [
                entry for entry in waiting if entry.due is not None and entry.due <= now
            ]
            for entry in due:
                del _entries[entry.key]
            if len(due) == len(waiting):
                _sweeping = False
            times = [entry.due for entry in waiting if entry.due is not None and entry.due > now]
        for entry in due:
            if entry.pool is not None:
                entry.pool.close()
        _settle()
        if not times:
            return
        time.sleep(min(min(times) - now, _STEP))


def _forget_pools() -> None:
    # In a forked child they are the parent's; whoever has a lease opens one there.
    global _lock, _sweeping
    _lock = threading.Lock()
    _sweeping = False
    for entry in _entries.values():
        entry.pool = None
        entry.opening = threading.Lock()


os.register_at_fork(after_in_child=_forget_pools)
