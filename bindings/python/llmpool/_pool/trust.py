"""Whom a client trusts and what it shows, from what httpx and requests call verify and cert."""

import ctypes
import os
import re
import sys
import weakref
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

from .pool import key_pair

if TYPE_CHECKING:
    import ssl

Verify = Union[bool, str, "os.PathLike[str]", "ssl.SSLContext"]
Cert = Union[str, Tuple[str, ...], None]

# Not compiled here, which would take as long as the rest of the import.
_PEM = rb"(?s)-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----"
_HASHED = r"[0-9a-f]{8}\.[0-9]+"


class Trust(NamedTuple):
    """Whom to trust.

    Attributes:
        key: equal where the same certificates are trusted, however they were named.
        options: of a pool.
    """

    key: Tuple[str, ...]
    options: Dict[str, Any]


SYSTEM = Trust(("system",), {})
ANYBODY = Trust(("anybody",), {"verify": False})


class Seen(NamedTuple):
    """What a context was given that cannot be read back from it.

    Attributes:
        client_cert: as load_cert_chain() took it: a file, or a pair.
        ca_path: as load_verify_locations() took it.
    """

    client_cert: Any = None
    ca_path: Optional[str] = None


_seen: "weakref.WeakKeyDictionary[Any, Seen]" = weakref.WeakKeyDictionary()


def note(context: "ssl.SSLContext", *, client_cert: Any = None, ca_path: Any = None) -> None:
    """Remembers what a context was given by whoever saw it being given."""
    before = _seen.get(context, Seen())
    path = before.ca_path if ca_path is None else os.fsdecode(ca_path)
    _seen[context] = Seen(before.client_cert if client_cert is None else client_cert, path)


def trust(verify: Verify = True, trust_env: bool = True) -> Trust:
    """What verify says: True, False, a file, a directory or an ssl.SSLContext.

    Args:
        trust_env: SSL_CERT_FILE and SSL_CERT_DIR count where verify is True.

    Raises:
        ValueError: the context cannot be translated, a file has no certificate.
        OSError: a file cannot be read.
        TypeError: it is something else.
    """
    if verify is True:
        return _default(trust_env)
    if verify is False:
        return ANYBODY
    if isinstance(verify, (str, os.PathLike)):
        return _of_path(os.fspath(verify))
    return _of_context(verify)


def is_default(context: "ssl.SSLContext") -> bool:
    """Whether a context trusts what a client trusts that says nothing: the system's store, or
    certifi's. False where it cannot be told, or has a client certificate."""
    try:
        trusted = _of_context(context)
        if client_certificate(context, None) is not None:
            return False
        return trusted == SYSTEM or trusted.key == _of_file(_certifi()).key
    except (ImportError, OSError, ValueError):
        return False


def _certifi() -> str:
    import certifi

    return certifi.where()


def _default(trust_env: bool) -> Trust:
    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        if trust_env:
            return SYSTEM  # OpenSSL minds both by itself
        file, directory = _system_places()
        if os.path.isfile(file):
            return _of_file(file)
        if _has_certificates(directory):
            return _of_directory(directory)
    else:
        file, directory = _system_places()
        if os.path.isfile(file) or _has_certificates(directory):
            return SYSTEM
    try:
        return _of_file(_certifi())
    except ImportError:
        return SYSTEM  # whose error says that there is none


def _system_places() -> Tuple[str, str]:
    import ssl

    paths = ssl.get_default_verify_paths()
    return paths.openssl_cafile, paths.openssl_capath


def _has_certificates(directory: str) -> bool:
    try:
        return any(re.fullmatch(_HASHED, name) for name in os.listdir(directory))
    except OSError:
        return False


def _of_path(path: str) -> Trust:
    return _of_directory(path) if os.path.isdir(path) else _of_file(path)


def _of_directory(path: str) -> Trust:
    return Trust(("directory", os.path.realpath(path)), {"ca_path": path})


def _of_file(path: str) -> Trust:
    digest = _file_digest(path)
    if digest == _system_digest():
        return SYSTEM
    return Trust(("certificates", digest), {"ca_file": path})


def _digest(certificates: Iterable[bytes]) -> str:
    from hashlib import sha256

    whole = sha256()
    for certificate in sorted(set(certificates)):
        whole.update(len(certificate).to_bytes(4, "big"))
        whole.update(certificate)
    return whole.hexdigest()


# By path, behind what the file was like when it was read: a store has 140 certificates.
_digests: Dict[str, Tuple[Tuple[int, ...], str]] = {}


def _file_digest(path: str) -> str:
    from base64 import b64decode

    status = os.stat(path)
    state = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
    known = _digests.get(path)
    if known is not None and known[0] == state:
        return known[1]
    with open(path, "rb") as file:
        text = file.read()
    try:
        certificates = [b64decode(body) for body in re.findall(_PEM, text)]
    except ValueError:
        certificates = []
    if not certificates:
        raise ValueError(f"verify: {path}: no certificate in it")
    if len(_digests) >= 64:
        _digests.clear()
    digest = _digest(certificates)
    _digests[path] = (state, digest)
    return digest


def _system_digest() -> str:
    """Of the store that OpenSSL finds by itself; "" where it is no file, or not a file alone."""
    file, directory = _system_places()
    other = os.environ.get("SSL_CERT_DIR")
    if other and os.path.realpath(other) != os.path.realpath(directory):
        return ""
    file = os.environ.get("SSL_CERT_FILE") or file
    try:
        return _file_digest(file)
    except (OSError, ValueError):
        return ""


# ---- contexts


def _of_context(context: Any) -> Trust:
    import ssl

    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            "verify is True, False, a file or directory of CA certificates, or an ssl.SSLContext, "
            f"not {type(context).__name__}"
        )
    if context.verify_mode == ssl.CERT_NONE:
        return ANYBODY
    _refuse_stricter(context, ssl)
    seen = _seen.get(context, Seen())
    inner = _inner(context)
    certificates = inner.get_ca_certs(binary_form=True)
    if inner is not context:
        if not certificates and seen.ca_path is None:
            return SYSTEM
        # It has the system's store only while it connects.
        system = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _inner(system).set_default_verify_paths()
        certificates = sorted({*certificates, *_inner(system).get_ca_certs(binary_form=True)})
    elif len(certificates) != context.cert_store_stats()["x509"]:
        raise ValueError(
            "verify: the context trusts a certificate that is no CA's, which cannot be read back "
            "from it: pass the file, verify='/path/to/it.pem'"
        )
    if not certificates and seen.ca_path is None:
        raise ValueError(
            "verify: no CA certificate can be read back from the context; those of a directory "
            "never can: pass the file or directory itself, verify='/path'"
        )
    return _of_certificates(certificates, seen.ca_path)


def _inner(context: Any) -> Any:
    """Of one of truststore's, which trusts the system's store and what it was given beside it: the
    context that it hands everything over to. Another is its own."""
    is_outer = type(context).__module__.startswith("truststore")
    return context._ctx if is_outer else context


def _of_certificates(certificates: List[bytes], ca_path: Optional[str]) -> Trust:
    from ssl import DER_cert_to_PEM_cert

    digest = _digest(certificates)
    if certificates and digest == _system_digest():
        return SYSTEM
    options: Dict[str, Any] = {}
    key: Tuple[str, ...] = ("certificates", digest) if certificates else ()
    if certificates:
        options["ca_pem"] = "".join(map(DER_cert_to_PEM_cert, certificates))
    if ca_path is not None:
        options["ca_path"] = ca_path
        key += ("directory", os.path.realpath(ca_path))
    return Trust(key, options)


def _refuse_stricter(context: "ssl.SSLContext", ssl: Any) -> None:
    """What would be given up without a word if it were passed over."""
    if not context.check_hostname:
        raise ValueError(
            "verify: a context that verifies certificates but no host names (check_hostname=False) "
            "has no counterpart here: server_name, or the extension sni_hostname, says whose "
            "certificate is expected"
        )
    if context.verify_flags & (ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN):
        raise ValueError("verify: revocation lists of a context are not supported")
    if context.minimum_version > ssl.TLSVersion.TLSv1_2:
        raise ValueError("verify: a context's minimum_version above TLS 1.2 is not supported")
    if 0 < context.maximum_version < ssl.TLSVersion.TLSv1_3:  # negative: whatever there is
        raise ValueError("verify: a context's maximum_version below TLS 1.3 is not supported")


def client_certificate(verify: Verify, cert: Cert) -> Any:
    """As client_cert of a pool: what cert says, or what a context was seen to load.

    Raises:
        ValueError: the context has one that was not seen being loaded; a key with a passphrase.
    """
    if cert is not None:
        return key_pair(cert if isinstance(cert, (str, os.PathLike)) else _given(cert))
    if isinstance(verify, (bool, str, os.PathLike)):
        return None
    seen = _seen.get(verify, Seen())
    if seen.client_cert is None and _has_certificate(_inner(verify)):
        raise ValueError(
            "verify: the context has a client certificate, which cannot be read back from it: pass "
            "its files, cert=('/path/cert.pem', '/path/key.pem')"
        )
    return seen.client_cert


def _given(cert: Tuple[Optional[str], ...]) -> Tuple[Optional[str], ...]:
    """Without a passphrase that is None, and a key that is in the certificate's file."""
    parts = list(cert)
    while parts and parts[-1] is None:
        parts.pop()
    return tuple(parts * 2 if len(parts) == 1 else parts)


def _has_certificate(context: Any) -> bool:
    """Whether a context will show a certificate; False where that cannot be told.

    Python has no function for it. OpenSSL has: asked of the very library that Python's ssl uses, it
    is given the pointer that CPython keeps as the first field of a context.
    """
    import _ssl

    if sys.implementation.name != "cpython" or not isinstance(context, _ssl._SSLContext):
        return False
    try:
        get = ctypes.PyDLL(_ssl.__file__)["SSL_CTX_get0_certificate"]
    except (AttributeError, OSError):  # linked into Python, or into the module
        return False
    get.restype = ctypes.c_void_p
    get.argtypes = (ctypes.c_void_p,)
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    return bool(pointer and get(pointer))


def certificate_key(client_cert: Any) -> Optional[str]:
    """Equal for the same certificate and key, however they were named."""
    if client_cert is None:
        return None
    from hashlib import sha256

    whole = sha256()
    for name in dict.fromkeys(key_pair(client_cert)):
        with open(name, "rb") as file:
            whole.update(file.read())
    return whole.hexdigest()
