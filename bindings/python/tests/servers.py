"""Servers for the tests: all on loopback, on a free port, ended by their own id."""

import contextlib
import os
import socket
import ssl
import struct
import threading
from pathlib import Path

from processes import (  # noqa: F401
    LOOPBACK_NAMES,
    OPENSSL_NEW,
    count_descriptors,
    count_threads,
    end,
    free_port,
    listening,
    make_authority,
    make_certificate,
    openssl,
    running,
    wait_until,
)


class Certificates:
    """A CA, and server certificates with one thing wrong each."""

    def __init__(self, directory):
        self.directory = Path(directory)
        make_authority(directory, "ca")
        make_authority(directory, "unknown-ca")
        make_certificate(directory, "good", "ca")
        make_certificate(directory, "expired", "ca", days=0)  # OpenSSL 3.4 refuses -1
        make_certificate(directory, "wrong-host", "ca", "DNS:other.example")
        make_certificate(directory, "unknown", "unknown-ca")
        openssl(
            directory, "req", "-x509", *OPENSSL_NEW, "-keyout", "self-signed.key",
            "-out", "self-signed.pem", "-days", "2", "-subj", "/CN=localhost",
            "-addext", f"subjectAltName={LOOPBACK_NAMES}",
        )  # fmt: skip

    @property
    def ca_file(self):
        return str(self.directory / "ca.pem")

    def pair(self, name):
        return str(self.directory / f"{name}.pem"), str(self.directory / f"{name}.key")

    def context(self, name, alpn=("http/1.1",)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pair(name))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def python_path():
    """For a child: these helpers, and the same llmpool as here."""
    import llmpool

    here = Path(__file__).resolve().parent
    return os.pathsep.join([str(here), str(Path(llmpool.__file__).resolve().parent.parent)])


def tcp_sockets(shown=Path("/proc/net/tcp")):
    """Of this machine, over IPv4: what the kernel says of each, by its two addresses.

    Each once: sockets that come while its list is read make it show others again.
    """
    lines = shown.read_text().splitlines()[1:]
    return {tuple(fields[1:3]): fields for fields in (line.split() for line in lines)}


def remote_port(fields):
    return int(fields[2].rsplit(":", 1)[1], 16)


def sockets_to(port, states=("01", "02", "03", "08")):
    """How many sockets of this machine are connected to a local port, as the kernel counts."""
    sockets = tcp_sockets().values()
    return sum(remote_port(fields) == port and fields[3] in states for fields in sockets)


def peers(port, address):
    """Established connections of this machine to a local port at one IPv4 address."""
    wanted = f"{struct.unpack('<I', socket.inet_aton(address))[0]:08X}:{port:04X}"
    return sum(fields[2] == wanted and fields[3] == "01" for fields in tcp_sockets().values())


class Calls:
    """What a mock counted since the test began."""

    def __init__(self, server):
        self._server = server
        self._before = server.stats()

    def since(self):
        return self._between(self._before, self._server.stats())

    def _between(self, before, now):
        if not isinstance(now, dict):
            return now - (before or 0)
        return {name: self._between((before or {}).get(name), now[name]) for name in now}


class Beside:
    """Runs run() on a thread of its own while its block lasts: until is_over is set."""

    def __init__(self):
        self.is_over = threading.Event()
        self._thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self._thread.join()


class Watch(Beside):
    """Samples the number of sockets to a port while its block lasts."""

    def __init__(self, port):
        super().__init__()
        self.port = port
        self.most = 0

    def run(self):
        while not self.is_over.wait(0.002):
            self.most = max(self.most, sockets_to(self.port))


def reset(connection):
    """Closes with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class _Ends:
    """A socket that ends whoever reads on behind its end: else a handler that takes no notice of it
    is busy for as long as the tests run, beside all that come after."""

    _has_ended = False

    def recv(self, size, *flags):
        data = super().recv(size, *flags)
        if data or size == 0:
            return data
        if self._has_ended:
            raise EOFError
        self._has_ended = True
        return data


class _Peer(_Ends, socket.socket):
    pass


class _TLSPeer(_Ends, ssl.SSLSocket):
    pass


class RawServer:
    """Runs handle(connection, number) in a thread for each connection."""

    def __init__(self, handle, context=None, host="127.0.0.1", port=0):
        self.handle = handle
        self.context = context
        self.connections = 0
        self.errors = []
        self._open = set()
        self._listener = socket.create_server((host, port), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self):
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    def _accept(self):
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            connection = _Peer(fileno=accepted.detach())
            self.connections += 1
            self._open.add(connection)
            threading.Thread(
                target=self._serve, args=(connection, self.connections), daemon=True
            ).start()

    def _serve(self, connection, number):
        plain = connection
        try:
            connection.settimeout(20)
            if self.context:
                self.context.sslsocket_class = _TLSPeer
                connection = self.context.wrap_socket(connection, server_side=True)
                self._open.add(connection)
            self.handle(connection, number)
        except (OSError, EOFError):
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            self._open.discard(plain)
            self._open.discard(connection)
            connection.close()
            plain.close()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        assert not self.errors, self.errors


def read_head(connection, buffer=b""):
    """(request head, what was read beyond it)"""
    while b"\r\n\r\n" not in buffer:
        piece = connection.recv(65536)
        if not piece:
            raise EOFError
        buffer += piece
    head, _, rest = buffer.partition(b"\r\n\r\n")
    return head, rest


def content_length(head):
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def read_request(connection, buffer=b""):
    """(head, body, what was read beyond it)"""
    head, buffer = read_head(connection, buffer)
    size = content_length(head)
    while len(buffer) < size:
        piece = connection.recv(65536)
        if not piece:
            raise EOFError
        buffer += piece
    return head, buffer[:size], buffer[size:]


def answer(connection, body=b"ok", headers=b"", status=b"200 OK"):
    connection.sendall(
        b"HTTP/1.1 %s\r\ncontent-length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)
    )


def answer_heads(connection, number):
    """Answers each request with its own head."""
    rest = b""
    while True:
        head, _, rest = read_request(connection, rest)
        answer(connection, head)


NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  client_max_body_size 100m;
  keepalive_requests {requests};
  keepalive_timeout {keepalive};
  default_type text/plain;
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl http2;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    root {directory}/www;
    location / {{ }}
    location /early {{ return 200 "early"; }}
    location /slow {{ limit_rate 20k; }}
    location /gzip {{ gzip on; gzip_types *; gzip_min_length 1; alias {directory}/www/; }}
  }}
}}
"""


class Nginx:
    def __init__(self, directory, certificates, keepalive="60s", requests=100_000):
        self.directory = Path(directory)
        self.plain, self.tls = free_port(), free_port()
        www = self.directory / "www"
        www.mkdir()
        (www / "small").write_bytes(b"x" * 200)
        (www / "large").write_bytes(os.urandom(1 << 20))
        (www / "text").write_text("the same words again and again " * 100)
        certificate, key = certificates.pair("good")
        (self.directory / "nginx.conf").write_text(
            NGINX.format(
                directory=self.directory, plain=self.plain, tls=self.tls, certificate=certificate,
                key=key, keepalive=keepalive, requests=requests,
            )
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{self.plain}"
        self.tls_url = f"https://127.0.0.1:{self.tls}"

    def run(self):
        return running(
            ("/usr/sbin/nginx", "-c", str(self.directory / "nginx.conf"), "-e",
             str(self.directory / "error.log")),
            self.plain, self.directory,
        )  # fmt: skip


class Nghttpd:
    def __init__(self, directory, certificates, *options):
        self.directory = Path(directory)
        self.port = free_port()
        (self.directory / "small").write_bytes(b"x" * 200)
        (self.directory / "large").write_bytes(os.urandom(1 << 20))
        self.options = options
        self.certificate = certificates.pair("good") if certificates else None
        self.url = f"{'https' if certificates else 'http'}://127.0.0.1:{self.port}"

    def run(self):
        tail = [str(self.port)]
        if self.certificate:
            tail += [self.certificate[1], self.certificate[0]]
        else:
            tail = ["--no-tls", *tail]
        return running(
            ("nghttpd", "-a", "127.0.0.1", "-d", str(self.directory), *self.options, *tail),
            self.port, self.directory,
        )  # fmt: skip
