"""A certificate authority and a server certificate, made at start by the openssl command."""

import os
import subprocess
from pathlib import Path
from typing import NamedTuple, Union


class Certificate(NamedTuple):
    ca_file: str
    chain_file: str
    key_file: str


def make_certificate(directory: Union[str, "os.PathLike[str]"]) -> Certificate:
    """For localhost, 127.0.0.1 and ::1, valid for a day, signed by a CA of its own.

    The openssl command is there wherever Debian's libssl is used in earnest, and spares the mock a
    dependency with a compiled part.

    Raises:
        RuntimeError: there is no openssl command, or it failed.
    """
    root = Path(directory)
    (root / "leaf.cnf").write_text(
        "basicConstraints=critical,CA:FALSE\n"
        "keyUsage=critical,digitalSignature\n"
        "extendedKeyUsage=serverAuth\n"
        "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n"
        "subjectKeyIdentifier=hash\n"
        "authorityKeyIdentifier=keyid\n"
    )
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256")
    _openssl(
        root, "req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "1",
        "-subj", "/CN=llmpool mock CA",
        "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    _openssl(root, "req", *new, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=localhost")
    _openssl(
        root, "x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-days", "1", "-sha256", "-extfile", "leaf.cnf", "-out", "leaf.pem",
    )  # fmt: skip
    (root / "ca.key").unlink()  # nothing else is to be signed with it
    return Certificate(str(root / "ca.pem"), str(root / "leaf.pem"), str(root / "leaf.key"))


def _openssl(directory: Path, *arguments: str) -> None:
    try:
        done = subprocess.run(
            ("openssl", *arguments),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except FileNotFoundError:
        raise RuntimeError(
            "the mock makes its certificate with the openssl command: apt install openssl, or "
            "serve without TLS (--no-tls)"
        ) from None
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
