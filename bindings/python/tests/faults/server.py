"""A server that misbehaves as scripts say; it shares no code with the library.

A script is a function that plays one accepted connection, over TCP or TLS. What it does not do for
too long is ended for it: every wait is bounded. heal() ends the scripts and from then on the server
is a good one.
"""

import contextlib
import dataclasses
import socket
import ssl
import struct
import threading
import time
from collections import Counter

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hyperframe.frame

PATIENCE = 6.0  # longest wait of a script for its client


@dataclasses.dataclass(frozen=True)
class Script:
    """play(peer) for each connection, and what must come of it.

    expect: the status of every request ("OK", "E_READ", "E_READ or E_WRITE"), or a dict that says
    of how many requests. A round's requests are in flight together; rounds follow one another.
    """

    name: str
    play: object
    expect: object
    h2: bool
    tls: tuple = (False, True)
    parsing: bool = False  # about bytes, not about sockets: played over one of the two
    before_tls: bool = False  # play() gets the connection without TLS and may start it itself
    requests: int = 1
    rounds: int = 1
    pause: float = 0.0  # between the rounds
    warm: bool = False  # a good request before the first round, so that the connection is there
    method: str = None
    body: bytes = b""
    stream: bool = False
    hold: bool = False  # streamed, and nothing released before the end
    pool: dict = dataclasses.field(default_factory=dict)
    timeout: dict = dataclasses.field(default_factory=dict)
    max_response_bytes: int = 0
    seconds: float = 2.0  # the longest that a round may take
    cpu: float = 0.0  # most seconds of CPU of the pool's thread, where it matters
    answers: int = 200  # the status of what ends in OK
    also: object = None  # also(run): what else must hold
    permitted: bool = False  # the server may see a request twice: its script refuses none by name


SCRIPTS = []


def script(expect, *, h2, **options):
    def register(play):
        SCRIPTS.append(Script(play.__name__, play, expect, h2, **options))
        return play

    return register


@dataclasses.dataclass
class Request:
    head: bytes
    body: bytes
    nonce: str


class Peer:
    """One accepted connection, as a script sees it. Every call may raise OSError or EOFError."""

    def __init__(self, server, sock, number):
        self.server = server
        self.sock = sock
        self.number = number  # of the connection, from 1
        self.buffer = b""
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start_tls(self):
        self.sock = self.server.context.wrap_socket(self.sock, server_side=True)

    def send(self, data):
        self.sock.sendall(data)

    def send_in_pieces(self, data, size=1):
        for start in range(0, len(data), size):
            self.sock.sendall(data[start : start + size])

    def recv(self, size=65536):
        data = self.sock.recv(size)
        if not data:
            raise EOFError
        return data

    def read(self, size):
        """At least so many bytes into the buffer."""
        while len(self.buffer) < size:
            self.buffer += self.recv()

    def wait_closed(self, seconds=PATIENCE):
        """Reads and drops until the client has closed the connection."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError, EOFError):
            while time.monotonic() < deadline:
                self.recv()

    def silence(self, seconds=PATIENCE):
        """Neither reads nor writes, until the client closes or the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.server.healed:
            # Closed by the client: a FIN in the state, whatever bytes lie unread before it.
            state = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            if state != 1:  # ESTABLISHED
                return
            time.sleep(0.01)

    def reset(self):
        """RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.close(self.sock)

    def close(self):
        """FIN; over TLS without its goodbye. RST, says the kernel, if something lies unread."""
        socket.socket.close(self.sock)

    def say_goodbye(self):
        """The end as TLS wants it."""
        if isinstance(self.sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.sock.unwrap()

    # ---- HTTP/1.1

    def request(self, whole=True):
        """The next request; it counts as arrived once its head was read."""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.recv()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        fields = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields[name.strip().lower()] = value.strip()
        nonce = fields.get(b"x-nonce", b"").decode()
        self.server.arrived(nonce)
        body = b""
        if whole:
            size = int(fields.get(b"content-length", b"0"))
            self.read(size)
            body, self.buffer = self.buffer[:size], self.buffer[size:]
        return Request(head, body, nonce)

    def answer(self, request, status="200 OK", headers="", body=None):
        body = request.nonce.encode() if body is None else body
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        self.send(head.encode("latin-1") + body)

    def serve(self):
        """A good server, until the client closes."""
        while True:
            self.answer(self.request())


class H2Peer(Peer):
    """The same with HTTP/2 on it, as hyper-h2 speaks it; frame() goes past it."""

    def __init__(self, server, sock, number):
        super().__init__(server, sock, number)
        config = h2.config.H2Configuration(
            client_side=False, header_encoding="utf-8", validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )  # fmt: skip
        self.h2 = h2.connection.H2Connection(config)
        self.nonces = {}  # of each stream that has come
        self.complete = set()  # streams whose request has ended
        self.received = Counter()  # bytes of request bodies, by stream
        self.resets = {}  # streams that the client reset
        self.gone = False  # the client said GOAWAY
        self.answered = set()  # streams that are done with, here
        self.acknowledged = False  # our SETTINGS
        self.last = 2**31 - 1  # stream that a GOAWAY left to this connection
        self.credits = True

    def start(self, **settings):
        """Sends our SETTINGS: names as in hyper-h2, in lower case."""
        values = dict(self.h2.local_settings)
        for name, value in settings.items():
            values[getattr(h2.settings.SettingCodes, name.upper())] = value
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.flush()
        return self

    def flush(self):
        self.send(self.h2.data_to_send())

    def frame(self, *frames):
        self.send(b"".join(frame.serialize() for frame in frames))

    def pump(self):
        """Takes what the client sends next; answers SETTINGS and PING, credits bodies."""
        try:
            events = self.h2.receive_data(self.recv())
        except h2.exceptions.ProtocolError as error:
            if not self.gone:
                self.server.found(f"the client broke HTTP/2: {error}")
            raise EOFError from error
        for event in events:
            self.take(event)
        self.flush()

    def take(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.nonces[event.stream_id] = dict(event.headers).get("x-nonce", "")
            if event.stream_id <= self.last:
                self.server.arrived(self.nonces[event.stream_id])
        elif isinstance(event, h2.events.DataReceived):
            self.received[event.stream_id] += len(event.data)
            if self.credits and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.complete.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self.acknowledged = True
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.gone = True

    def heads(self, count=1):
        """The streams of so many requests, in their order; their bodies may still come."""
        while len(self.nonces) < count:
            self.pump()
        return sorted(self.nonces)

    def requests(self, count=1):
        """The same, once they have come in full."""
        while len(self.complete) < count:
            self.pump()
        return sorted(self.complete)

    def next_request(self):
        """The stream of one more complete request."""
        before = set(self.complete)
        while self.complete == before:
            self.pump()
        return min(self.complete - before)

    def answer(self, stream, status="200", headers=(), body=None, end=True):
        body = self.nonces[stream].encode() if body is None else body
        self.answered.add(stream)
        self.h2.send_headers(stream, [(":status", status), *headers])
        self.h2.send_data(stream, body, end_stream=end)
        self.flush()

    def goaway(self, last, code=0):
        """Requests above the last id did not arrive, also those yet to come."""
        self.last = last
        for stream in self.nonces:
            if stream > last:
                self.server.refused(self.nonces[stream])
        self.frame(hyperframe.frame.GoAwayFrame(0, last_stream_id=last, error_code=code))

    def refuse(self, *streams):
        """By RST_STREAM; those requests did not arrive."""
        for stream in streams:
            self.answered.add(stream)
            self.server.refused(self.nonces[stream])
            self.h2.reset_stream(stream, 7)  # REFUSED_STREAM
        self.flush()

    def serve(self):
        """A good server, until the client closes; also for what has come already."""
        while True:
            for stream in sorted(self.complete - self.answered - set(self.resets)):
                self.answer(stream)
            self.pump()

    def wait_closed(self, seconds=PATIENCE):
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError, EOFError):
            while time.monotonic() < deadline:
                self.pump()


class FaultServer:
    """Plays a script on each connection, in a thread for each, on a free port of loopback."""

    def __init__(self, script, context=None):
        self.script = script
        self.context = context
        self.healed = False
        self.connections = 0
        self.errors = []  # what a script did not expect: a bug of its own
        self.findings = []  # what a script noticed of the client
        self._lock = threading.Lock()
        self._arrivals = Counter()
        self._peers = set()
        self._threads = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self):
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    # ---- what scripts tell

    def arrived(self, nonce):
        with self._lock:
            self._arrivals[nonce] += 1

    def refused(self, nonce):
        """The client was told that nothing was done for this request: it may come again."""
        with self._lock:
            self._arrivals[nonce] -= 1

    def found(self, text):
        self.findings.append(text)

    def twice(self):
        """Requests that arrived again without permission."""
        with self._lock:
            return sorted(nonce for nonce, count in self._arrivals.items() if count > 1)

    def heal(self):
        """Ends every connection of the script and lets its threads end."""
        self.healed = True
        with self._lock:
            peers = list(self._peers)
        for peer in peers:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)

    # ---- the threads

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(
                target=self._serve, args=(sock, self.connections), daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock, number):
        peer = (H2Peer if self.script.h2 else Peer)(self, sock, number)
        with self._lock:
            self._peers.add(peer)
        try:
            if self.context and (self.healed or not self.script.before_tls):
                peer.start_tls()
            if self.healed:
                if self.script.h2:
                    peer.start()
                peer.serve()
            self.script.play(peer)
        except (OSError, EOFError):
            pass  # the client went away: the table says whether it was to
        except Exception as error:
            if not self.healed:
                self.errors.append(error)
        finally:
            with self._lock:
                self._peers.discard(peer)
            with contextlib.suppress(OSError):
                socket.socket.close(peer.sock)
            sock.close()

    def __enter__(self):
        self._accepting.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(PATIENCE)  # no thread is made any more, and each has begun
        self.heal()
        for thread in self._threads:
            thread.join(PATIENCE)
