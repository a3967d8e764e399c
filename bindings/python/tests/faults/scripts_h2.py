"""What HTTP/2 servers do wrong. The statuses are what design and llmpool.h promise."""

import contextlib
import functools
import os
import struct
import time

import h2.errors
import h2.settings
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from server import script as any_script

script = functools.partial(any_script, h2=True)
MAX_STREAMS = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
FIRST = 1  # number of the connection that misbehaves; those after it are good
EVERYBODY = 2**31 - 1  # as last stream id of a GOAWAY
WINDOW = 1 << 20  # of a stream, as the pool has it


def string(text):
    """RFC 7541, section 5.2, without Huffman coding."""
    data = text.encode("latin-1")
    if len(data) < 127:
        return bytes((len(data),)) + data
    length, rest = b"\x7f", len(data) - 127
    while rest >= 128:
        length += bytes((rest & 127 | 128,))
        rest >>= 7
    return length + bytes((rest,)) + data


def encode(headers):
    """A header block that touches no table, so that blocks can follow in any order."""
    return b"".join(b"\0" + string(name) + string(value) for name, value in headers)


OK = encode([(":status", "200")])


def headers_frame(stream, block=OK, *flags):
    return HeadersFrame(stream, block, flags=flags)


def data_frame(stream, data=b"", *flags):
    return DataFrame(stream, data, flags=flags)


def goaway(last, code=0):
    return GoAwayFrame(0, last_stream_id=last, error_code=code)


def raw(kind, stream, payload=b"", flags=0, length=None):
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def good_after_the_first(play):
    """Only the first connection plays the script."""

    @functools.wraps(play)
    def choose(peer):
        if peer.number == FIRST:
            play(peer)
        else:
            peer.start().serve()

    return choose


# ---- silence


@script("E_READ_TIMEOUT")
def accept_and_say_nothing(peer):
    peer.silence()


@script("E_READ_TIMEOUT")
def settings_and_nothing_more(peer):
    peer.start().wait_closed()


@script("E_FIRST_BYTE_TIMEOUT", timeout={"first_byte": 0.3, "read": 10})
def silence_before_the_first_byte(peer):
    peer.start().wait_closed()


@script("E_READ_TIMEOUT")
def silence_in_the_head(peer):
    stream = peer.start().next_request()
    peer.frame(headers_frame(stream))
    peer.silence()


@script({"E_READ_TIMEOUT": 2, "OK": 8}, requests=10, also=lambda run: run.server.connections == 1)
def silence_in_two_of_ten_bodies(peer):
    """Those that time out, the first, leave the connection to the others."""
    for stream in peer.start().requests(10)[:2]:
        peer.answer(stream, body=b"half", end=False)
    for stream in peer.requests(10)[2:]:
        peer.answer(stream)
    peer.serve()


@script("E_READ", pool={"ping_interval": 0.1}, timeout={"read": 10}, seconds=1)
def ping_never_answered(peer):
    """The server has died; without PING that would take until the read timeout."""
    peer.start().next_request()
    peer.silence(30)


@script("OK", pool={"ping_interval": 0.8}, timeout={"read": 10})
def ping_answered_by_a_thinker(peer):
    stream = peer.start().next_request()
    began = time.monotonic()
    pings = 0
    while pings < 2:
        data = peer.recv()
        pings += data.count(b"\x00\x00\x08\x06\x00")
        for _ in range(data.count(b"\x00\x00\x08\x06\x00")):
            peer.frame(PingFrame(0, b"\0" * 8, flags=("ACK",)))
    seconds = time.monotonic() - began
    if pings > 1 + seconds / 0.75:
        peer.server.found(f"{pings} PINGs in {seconds:.2f} s, at one in 0.8 s")
    peer.answer(stream)
    peer.serve()


# ---- reset and closed in every phase


@script("E_READ or E_WRITE")
def reset_at_accept(peer):
    peer.reset()


@script("E_READ or E_WRITE")
def close_after_settings(peer):
    peer.start()
    peer.recv()


@script("E_READ")
def reset_after_the_request(peer):
    peer.start().next_request()
    peer.reset()


@script("E_READ", requests=10)
def close_after_ten_requests(peer):
    peer.start().requests(10)


@script("E_READ")
def reset_in_the_head(peer):
    stream = peer.start().next_request()
    peer.frame(HeadersFrame(stream, OK))
    time.sleep(0.02)
    peer.reset()


@script("E_READ", stream=True)
def reset_in_the_body(peer):
    peer.answer(peer.start().next_request(), body=b"half", end=False)
    time.sleep(0.02)
    peer.reset()


@script("E_READ")
def close_in_the_body(peer):
    peer.answer(peer.start().next_request(), body=b"half", end=False)


@script("E_READ")
def close_in_a_frame(peer):
    peer.answer(peer.start().next_request(), body=b"half", end=False)
    peer.send(b"\x00\x40\x00\x00\x00\x00\x00\x00\x01half")


# ---- slow, early


@script("OK", rounds=2)
def answer_in_single_bytes(peer):
    peer.send = peer.send_in_pieces
    peer.start().serve()


@script("OK", body=bytes(1 << 20))
def complete_answer_before_the_body_is_read(peer):
    peer.start().credits = False
    peer.answer(peer.heads()[0])
    peer.wait_closed(0.5)


@script("OK", body=bytes(1 << 20), answers=413)
def refusal_before_the_body_is_read(peer):
    peer.start().credits = False
    peer.answer(peer.heads()[0], "413")
    peer.wait_closed(0.5)


@script("OK", body=bytes(1 << 20))
def success_that_begins_before_the_body_is_read(peer):
    """An early 2xx does not stop the request: the server gets all of it."""
    peer.start()
    peer.credits = False
    stream = peer.heads()[0]
    nonce = peer.nonces[stream].encode()
    peer.h2.send_headers(stream, [(":status", "200")])
    peer.h2.send_data(stream, nonce[:1])
    peer.flush()
    while peer.received[stream] < 65535:
        peer.pump()
    peer.credits = True
    peer.h2.acknowledge_received_data(65535, stream)
    peer.flush()
    peer.requests()
    if peer.received[stream] != 1 << 20:
        peer.server.found(f"{peer.received[stream]} bytes of the request came")
    peer.h2.send_data(stream, nonce[1:], end_stream=True)
    peer.flush()
    peer.wait_closed(0.5)


# ---- RST_STREAM


@script("OK", requests=20, body=bytes(200_000))
def reset_without_error_after_the_answer(peer):
    """Complete answers; what is left of the bodies is not wanted (RFC 9113, section 8.1)."""
    peer.start().credits = False
    while True:
        for stream in set(peer.nonces) - peer.answered:
            peer.answer(stream)
            if stream not in peer.resets:
                peer.h2.reset_stream(stream, 0)
        # The connection's window must not run out before the last has come.
        if peer.h2.inbound_flow_control_window < 1 << 20:
            peer.h2.increment_flow_control_window(1 << 20)
        peer.flush()
        peer.pump()


@script("OK", requests=20)
def reset_without_error_after_everything(peer):
    for stream in peer.start().requests(20):
        peer.answer(stream)
        peer.frame(RstStreamFrame(stream, error_code=0))
    peer.wait_closed(1)


def reset_script(name, code, expect="E_READ", **options):
    """RST_STREAM in the middle of the answer: never a success, never repeated."""

    def play(peer):
        stream = peer.start().next_request()
        peer.answer(stream, body=b"half", end=False)
        peer.h2.reset_stream(stream, code)
        peer.flush()
        peer.wait_closed(1)

    play.__name__ = name
    script(expect, parsing=True, **options)(play)


for error in h2.errors.ErrorCodes:
    if error.name != "REFUSED_STREAM":
        reset_script(f"reset_by_{error.name.lower()}", error)
reset_script("reset_by_an_unknown_code", 0x1234)
reset_script("reset_of_a_streamed_answer_without_error", 0, stream=True)


@script("E_READ")
def reset_before_the_answer(peer):
    peer.h2.reset_stream(peer.start().next_request(), 2)
    peer.flush()
    peer.wait_closed(1)


@script("OK", requests=10, also=lambda run: {o.attempts for o in run.outcomes} == {2})
def refused_once(peer):
    peer.start()
    peer.refuse(*peer.requests(10))
    peer.serve()


def seen_once(run):
    return all(o.attempts == 1 and not o.unseen for o in run.outcomes)


@script("E_READ", method="POST", body=b"paid for", also=seen_once)
def refused_after_the_answer_had_begun(peer):
    """Whatever the server says of it then, it has acted."""
    stream = peer.start().next_request()
    peer.frame(headers_frame(stream, OK, "END_HEADERS"), RstStreamFrame(stream, error_code=7))
    peer.wait_closed(1)


@script("E_READ", method="POST", body=b"paid for", also=seen_once)
def refused_after_an_interim_answer(peer):
    stream = peer.start().next_request()
    block = encode([(":status", "103"), ("link", "</a>")])
    peer.frame(headers_frame(stream, block, "END_HEADERS"), RstStreamFrame(stream, error_code=7))
    peer.wait_closed(1)


@script("E_READ", method="POST", body=b"paid for", also=seen_once)
def goaway_below_an_answer_that_has_begun(peer):
    stream = peer.start().next_request()
    peer.frame(headers_frame(stream, OK, "END_HEADERS"), goaway(0))
    peer.wait_closed(1)


@script("OK", parsing=True)
def control_characters_in_a_value(peer):
    """RFC 9113, section 8.2.1, forbids NUL, CR and LF; the rest is odd, not ambiguous."""
    stream = peer.start().next_request()
    block = OK + b"\x00\x01x\x05a\x01\x7fbc"
    peer.frame(headers_frame(stream, block, "END_HEADERS"))
    peer.frame(data_frame(stream, peer.nonces[stream].encode(), "END_STREAM"))
    peer.wait_closed(1)


@script("OK", requests=100, also=lambda run: run.server.connections >= 10)
def ten_requests_a_connection(peer):
    """As nginx does it: what comes after is left out by a GOAWAY, and costs no retry."""
    peer.start(max_concurrent_streams=100)
    streams = peer.requests(10)[:10]
    peer.goaway(streams[-1])
    for stream in streams:
        peer.answer(stream)
    peer.wait_closed(1)


@script("E_REFUSED", also=lambda run: all(o.unseen for o in run.outcomes))
def refused_for_ever(peer):
    peer.start()
    while True:
        peer.refuse(peer.next_request())


# ---- GOAWAY


@script("OK", requests=4, also=lambda run: run.server.connections == 2)
@good_after_the_first
def goaway_below_then_answers_then_close(peer):
    """Those above the last id go to another connection, those up to it are answered here."""
    streams = peer.start().requests(4)
    peer.goaway(streams[1])
    time.sleep(0.02)
    for stream in streams[:2]:
        peer.answer(stream)


@script({"OK": 2, "E_READ": 2}, requests=4)
@good_after_the_first
def goaway_below_then_close(peer):
    streams = peer.start().requests(4)
    peer.goaway(streams[1])


@script("OK", requests=4)
@good_after_the_first
def goaway_with_0_then_close(peer):
    peer.start().requests(4)
    peer.goaway(0)


@script("OK", requests=4, rounds=2, also=lambda run: run.server.connections == 2)
@good_after_the_first
def goaway_at_then_answers_then_close(peer):
    streams = peer.start().requests(4)
    peer.goaway(streams[-1])
    for stream in streams:
        peer.answer(stream)


@script("E_READ", requests=4)
@good_after_the_first
def goaway_at_then_close(peer):
    peer.goaway(peer.start().requests(4)[-1])


@script("E_READ", requests=4)
@good_after_the_first
def goaway_above_then_close(peer):
    peer.start().requests(4)
    peer.goaway(EVERYBODY)


@script("E_READ", requests=4)
@good_after_the_first
def goaway_above_then_reset(peer):
    peer.start().requests(4)
    peer.goaway(EVERYBODY, 2)
    time.sleep(0.02)
    peer.reset()


@script("OK", requests=4, rounds=2, also=lambda run: run.server.connections == 2)
@good_after_the_first
def goaway_twice(peer):
    """The graceful way of RFC 9113, section 6.8."""
    streams = peer.start().requests(4)
    peer.goaway(EVERYBODY)
    time.sleep(0.02)
    peer.goaway(streams[-1])
    for stream in streams:
        peer.answer(stream)
    peer.wait_closed(1)


@script("E_PROTOCOL or E_READ", requests=2)
@good_after_the_first
def goaway_twice_growing(peer):
    """RFC 9113, section 6.8: the last id must not grow. What it had excluded may run elsewhere."""
    streams = peer.start().requests(2)
    peer.frame(goaway(streams[-1]), goaway(EVERYBODY))
    peer.wait_closed(1)


@script("OK", warm=True, rounds=3, also=lambda run: run.server.connections == 2)
def goaway_while_idle(peer):
    peer.start()
    peer.answer(peer.next_request())
    if peer.number == FIRST:
        peer.goaway(1)
        return peer.wait_closed(1)
    peer.serve()


@script("E_REFUSED", also=lambda run: run.outcomes[0].unseen)
def goaway_for_everybody_for_ever(peer):
    peer.start().next_request()
    peer.goaway(0, 11)  # ENHANCE_YOUR_CALM
    peer.wait_closed(1)


@script("E_READ", requests=5)
def reset_on_all_and_goaway_without_error(peer):
    """libcurl 7.88 took these truncated bodies for complete ones."""
    streams = peer.start().requests(5)
    for stream in streams:
        peer.answer(stream, body=b"half", end=False)
    peer.frame(*(RstStreamFrame(stream, error_code=0) for stream in streams), goaway(EVERYBODY))


@script("E_READ", requests=5, stream=True)
def goaway_without_error_and_reset_on_all(peer):
    streams = peer.start().requests(5)
    for stream in streams:
        peer.answer(stream, body=b"half", end=False)
    peer.frame(goaway(streams[-1]), *(RstStreamFrame(stream, error_code=0) for stream in streams))


# ---- SETTINGS


@script("OK", requests=5, rounds=2, pool={"connections": 1})
def streams_lowered_to_one(peer):
    """Those in flight go on; after that one at a time."""
    streams = peer.start().requests(5)
    peer.h2.update_settings({MAX_STREAMS: 1})
    peer.flush()
    for stream in streams:
        peer.answer(stream)
    while True:
        stream = peer.next_request()
        time.sleep(0.02)
        if set(peer.nonces) - peer.complete or len(peer.complete) > len(streams) + 1:
            peer.server.found("more streams than one")
        streams = [*streams, stream]
        peer.answer(stream)


@script(
    "OK", requests=3, rounds=2, pause=0.02, pool={"connections": 1, "wait": 2},
    also=lambda run: run.server.connections == 1,
)  # fmt: skip
def streams_lowered_to_none_for_a_while(peer):
    streams = peer.start().requests(3)
    peer.h2.update_settings({MAX_STREAMS: 0})
    peer.flush()
    for stream in streams:
        peer.answer(stream)
    time.sleep(0.2)
    peer.h2.update_settings({MAX_STREAMS: 10})
    peer.flush()
    peer.serve()


@script("E_POOL_TIMEOUT", warm=True, timeout={"pool": 0.4}, pool={"connections": 1})
def streams_lowered_to_none(peer):
    stream = peer.start().next_request()
    peer.h2.update_settings({MAX_STREAMS: 0})
    peer.flush()
    peer.answer(stream)
    peer.wait_closed()


@script("OK", requests=500, pool={"connections": 4}, also=lambda run: run.server.connections <= 4)
def five_streams_allowed(peer):
    """What comes before the client has heard of it is refused; afterwards nothing may be."""
    peer.h2.initiate_connection()
    peer.h2.data_to_send()  # hyper-h2 would end the connection instead
    peer.frame(SettingsFrame(0, {MAX_STREAMS: 5}))
    while True:
        acknowledged = peer.acknowledged
        peer.pump()
        waiting = sorted(peer.complete - peer.answered)
        if len(waiting) > 5 and acknowledged:
            peer.server.found(f"{len(waiting)} streams where 5 are allowed")
        peer.refuse(*waiting[5:])
        for stream in waiting[:5]:
            peer.answer(stream)


# ---- windows


@script("E_WRITE_TIMEOUT", body=bytes(100_000), warm=True, cpu=0.1)
def window_never_opened(peer):
    peer.start(initial_window_size=0)
    peer.answer(peer.next_request())
    peer.wait_closed()


@script("E_WRITE_TIMEOUT", body=bytes(1 << 20), cpu=0.1)
def window_closed_on_the_way(peer):
    peer.start().credits = False
    peer.wait_closed()


@script(
    {"E_WRITE_TIMEOUT": 1, "OK": 1}, rounds=2, body=bytes(10_000), warm=True,
    also=lambda run: run.server.connections == 1,
)  # fmt: skip
def window_closed_to_one(peer):
    """The connection goes on to serve others."""
    peer.start(initial_window_size=0)
    peer.answer(peer.next_request())
    while not peer.resets:
        peer.pump()
    peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65535})
    peer.flush()
    peer.serve()


@script("OK", body=bytes(100_000))
def window_made_negative(peer):
    """RFC 9113, section 6.9.2: a smaller initial window takes back what was given."""
    peer.start().credits = False
    stream = peer.heads()[0]
    while peer.received[stream] < 65535:
        peer.pump()
    peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    peer.flush()
    time.sleep(0.05)
    peer.h2.increment_flow_control_window(100_000, stream)
    peer.h2.increment_flow_control_window(100_000)
    peer.flush()
    peer.requests()
    peer.serve()


@script("E_PROTOCOL", hold=True, timeout={"read": 3})
def more_sent_than_the_window_allows(peer):
    stream = peer.start().next_request()
    peer.frame(headers_frame(stream, OK, "END_HEADERS"))
    for _ in range(2 * WINDOW // 16384):
        peer.frame(data_frame(stream, bytes(16384)))
    peer.wait_closed(1)


@script("E_PROTOCOL")
def stream_window_beyond_its_limit(peer):
    stream = peer.start().next_request()
    for _ in range(2):
        peer.frame(WindowUpdateFrame(stream, window_increment=2**31 - 1))
    peer.wait_closed(1)


@script("E_PROTOCOL")
def connection_window_beyond_its_limit(peer):
    peer.start().next_request()
    for _ in range(2):
        peer.frame(WindowUpdateFrame(0, window_increment=2**31 - 1))
    peer.wait_closed(1)


# ---- floods


def unread_flood(peer, frame, seconds=1.5):
    """Sends without reading: what the client answers, it has to keep or to end."""
    peer.start().next_request()
    data = 1000 * (frame if isinstance(frame, bytes) else frame.serialize())
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        peer.send(data)
    peer.silence(0.1)


@script("E_PROTOCOL or E_READ_TIMEOUT", cpu=1.0)
def ping_flood(peer):
    unread_flood(peer, PingFrame(0, b"12345678"))


@script("E_PROTOCOL or E_READ_TIMEOUT", cpu=1.0)
def settings_flood(peer):
    unread_flood(peer, SettingsFrame(0, {4: 65535}))


@script("E_READ", cpu=1.0)
def reset_flood(peer):
    """The first of them ends the request; the connection may go on or not."""
    peer.answer(peer.start().next_request(), body=b"half", end=False)
    data = RstStreamFrame(1, error_code=0).serialize() * 1000
    for _ in range(1000):
        peer.send(data)
    peer.silence(1)


@script("E_PROTOCOL or E_READ_TIMEOUT", cpu=1.0)
def empty_data_flood(peer):
    """No byte of the body: the server is silent, however busy."""
    stream = peer.start().next_request()
    peer.frame(headers_frame(stream, OK, "END_HEADERS"))
    data = data_frame(stream).serialize() * 1000
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        peer.send(data)


@script("E_PROTOCOL or E_READ_TIMEOUT", cpu=1.0)
def unknown_frame_flood(peer):
    unread_flood(peer, raw(0xBB, 0, b"x" * 100))


@script("E_PROTOCOL or E_READ_TIMEOUT", cpu=1.0)
def window_update_flood(peer):
    unread_flood(peer, WindowUpdateFrame(1, window_increment=1))


@script("OK")
def some_of_everything_then_the_answer(peer):
    """Less than a flood is nothing but noise."""
    stream = peer.start().next_request()
    for _ in range(100):
        peer.frame(
            PingFrame(0, b"12345678"),
            SettingsFrame(0, {4: 65535}),
            WindowUpdateFrame(0, window_increment=1),
        )
        peer.send(raw(0xBB, 0, b"x"))
        peer.sock.settimeout(0.001)
        with contextlib.suppress(TimeoutError):
            peer.recv()
    peer.sock.settimeout(2)
    peer.answer(stream)
    peer.wait_closed(0.3)


# ---- header blocks


@script("E_PROTOCOL or E_TOO_LARGE", cpu=1.0)
def endless_continuation(peer):
    stream = peer.start().next_request()
    peer.frame(HeadersFrame(stream, OK))
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        peer.frame(ContinuationFrame(stream, encode([("x", "y" * 1000)]) * 10))


@script("E_PROTOCOL or E_TOO_LARGE", cpu=1.0)
def endless_empty_continuation(peer):
    stream = peer.start().next_request()
    peer.frame(HeadersFrame(stream, OK))
    data = ContinuationFrame(stream, b"").serialize() * 1000
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        peer.send(data)


@script("E_TOO_LARGE")
def hpack_bomb(peer):
    """A table entry of 4 KB, named 1,000 times by one byte each."""
    stream = peer.start().next_request()
    entry = b"\x40" + string("x") + string("y" * 3900)
    peer.frame(headers_frame(stream, OK + entry + b"\xbe" * 1000, "END_HEADERS"))
    peer.wait_closed(1)


def send_block(peer, stream, block, *flags):
    pieces = [block[i : i + 16384] for i in range(0, len(block), 16384)]
    frames = [HeadersFrame(stream, pieces[0], flags=flags)]
    frames += [ContinuationFrame(stream, piece) for piece in pieces[1:]]
    frames[-1].flags.add("END_HEADERS")
    peer.frame(*frames)


@script("E_TOO_LARGE")
def header_bomb_of_70_kilobytes(peer):
    stream = peer.start().next_request()
    send_block(peer, stream, OK + encode([(f"x-{i}", "y" * 1000) for i in range(70)]))
    peer.wait_closed(1)


@script("E_TOO_LARGE")
def header_bomb_of_100_000(peer):
    stream = peer.start().next_request()
    send_block(peer, stream, OK + encode([(f"x-{i}", "y") for i in range(100_000)]))
    peer.wait_closed(1)


@script("E_TOO_LARGE or E_PROTOCOL")
def header_bomb_of_10_megabytes(peer):
    stream = peer.start().next_request()
    send_block(peer, stream, OK + encode([("x", "y" * 10_000_000)]))
    peer.wait_closed(1)


@script("E_TOO_LARGE", cpu=0.5)
def endless_interim_answers(peer):
    stream = peer.start().next_request()
    frame = headers_frame(stream, encode([(":status", "103")]), "END_HEADERS")
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        peer.send(frame.serialize() * 100)


@script("OK")
def hundreds_of_interim_answers(peer):
    stream = peer.start().next_request()
    frame = headers_frame(stream, encode([(":status", "102")]), "END_HEADERS")
    peer.send(frame.serialize() * 500)
    peer.answer(stream)
    peer.serve()


def header_script(name, *blocks, expect="E_PROTOCOL", end=True):
    """Answers with such a header block; the connection stays open."""

    def play(peer):
        stream = peer.start().next_request()
        for block in blocks:
            last = end and block is blocks[-1]
            peer.frame(headers_frame(stream, block, "END_HEADERS", *(["END_STREAM"] * last)))
        peer.wait_closed(1)

    play.__name__ = name
    script(expect, parsing=True)(play)


header_script("hpack_index_0", OK + b"\x80")
header_script("hpack_index_beyond_the_table", OK + b"\xff\x7f")
header_script("hpack_integer_overflow", OK + b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
header_script("hpack_string_beyond_the_block", OK + b"\x00\x01x\x7f\x00y")
header_script("hpack_bad_huffman", OK + b"\x00\x01x\x84\xff\xff\xff\xff")
header_script("hpack_table_larger_than_allowed", b"\x3f\xe1\xff\x03" + OK)
header_script("hpack_garbage", b"\xff" * 64)
header_script("no_status", encode([("x", "y")]))
header_script("two_statuses", encode([(":status", "200"), (":status", "200")]))
header_script("status_of_two_digits", encode([(":status", "20")]))
header_script("status_in_words", encode([(":status", "good")]))
header_script("status_after_a_header", encode([("x", "y"), (":status", "200")]))
header_script("unknown_pseudo_header", encode([(":status", "200"), (":x", "y")]))
header_script("pseudo_header_of_requests", encode([(":status", "200"), (":path", "/")]))
header_script("name_in_upper_case", OK + b"\x00\x01X\x01y")
header_script("nul_in_a_value", OK + b"\x00\x01x\x03a\0b")
header_script("line_break_in_a_value", OK + b"\x00\x01x\x03a\nb")
header_script("nul_in_a_name", OK + b"\x00\x02x\0\x01a")
header_script("header_without_a_name", OK + b"\x00\x00\x01a")
header_script("connection_header", encode([(":status", "200"), ("connection", "close")]))
header_script("transfer_encoding", encode([(":status", "200"), ("transfer-encoding", "chunked")]))
header_script("interim_answer_that_ends_the_stream", encode([(":status", "103")]))
header_script("status_101", encode([(":status", "101")]), end=False)
header_script("pseudo_header_in_trailers", OK, encode([(":status", "200")]))
header_script("trailers_that_do_not_end", OK, encode([("x", "y")]), end=False)


# ---- lengths


def length_script(name, length, body, expect="E_PROTOCOL", status="200", **options):
    """Such a content-length, and so many bytes of the body."""

    def play(peer):
        stream = peer.start().next_request()
        lengths = length if isinstance(length, tuple) else (length,)
        block = encode([(":status", status), *(("content-length", value) for value in lengths)])
        peer.frame(headers_frame(stream, block, "END_HEADERS"))
        peer.frame(data_frame(stream, body, "END_STREAM"))
        peer.wait_closed(1)

    play.__name__ = name
    script(expect, parsing=True, **options)(play)


length_script("content_length_too_small", "4", b"hello")
length_script("content_length_too_large", "6", b"hello")
length_script("content_length_of_nothing", "5", b"")
length_script("content_length_with_a_plus", "+5", b"hello")
length_script("content_length_negative", "-5", b"hello")
length_script("content_length_beyond_64_bits", "18446744073709551621", b"hello")
length_script("content_length_twice", ("5", "6"), b"hello")
length_script("content_length_too_small_streamed", "4", b"hello", stream=True)


@script("E_TOO_LARGE", max_response_bytes=100_000, also=lambda run: run.server.connections == 1)
def a_body_larger_than_the_limit(peer):
    """Only this stream ends; the pool resets it."""
    stream = peer.start().next_request()
    peer.frame(headers_frame(stream, OK, "END_HEADERS"))
    for _ in range(20):
        peer.frame(data_frame(stream, bytes(16384)))
    while not peer.resets:
        peer.pump()
    peer.silence(0.05)
    peer.serve()


# ---- frames where none may be


def frame_script(name, make, expect="E_PROTOCOL", **options):
    """Frames instead of an answer; the connection stays open. make(stream) -> frames or bytes."""

    def play(peer):
        stream = peer.start().next_request()
        for frame in make(stream):
            peer.send(frame if isinstance(frame, bytes) else frame.serialize())
        peer.wait_closed(1)

    play.__name__ = name
    script(expect, parsing=True, **options)(play)


frame_script("data_on_stream_0", lambda s: [raw(0, 0, b"x")])
frame_script("headers_on_stream_0", lambda s: [raw(1, 0, OK, 4)])
frame_script("reset_on_stream_0", lambda s: [raw(3, 0, bytes(4))])
frame_script("continuation_on_stream_0", lambda s: [raw(9, 0, OK, 4)])
frame_script("continuation_out_of_order", lambda s: [raw(9, s, OK, 4)])
frame_script("settings_on_a_stream", lambda s: [raw(4, s)])
frame_script("ping_on_a_stream", lambda s: [raw(6, s, bytes(8))])
frame_script("goaway_on_a_stream", lambda s: [raw(7, s, bytes(8))])
frame_script("data_on_an_idle_stream", lambda s: [raw(0, 99, b"x")])
frame_script("reset_on_an_idle_stream", lambda s: [raw(3, 99, bytes(4))])
frame_script("window_update_on_an_idle_stream", lambda s: [raw(8, 99, b"\0\0\0\1")])
frame_script("headers_on_an_idle_stream", lambda s: [raw(1, 99, OK, 4)])
frame_script("headers_on_a_stream_of_ours", lambda s: [raw(1, 2, OK, 4)])
frame_script("data_before_headers", lambda s: [raw(0, s, b"x")])
frame_script("ping_of_7_bytes", lambda s: [raw(6, 0, bytes(7))])
frame_script("reset_of_3_bytes", lambda s: [raw(3, s, bytes(3))])
frame_script("window_update_of_0", lambda s: [raw(8, s, bytes(4))])
frame_script("window_update_of_0_for_all", lambda s: [raw(8, 0, bytes(4))])
frame_script("settings_of_5_bytes", lambda s: [raw(4, 0, bytes(5))])
frame_script("settings_ack_with_a_payload", lambda s: [raw(4, 0, bytes(6), 1)])
frame_script("settings_that_enable_push", lambda s: [raw(4, 0, b"\0\2\0\0\0\2")])
frame_script("settings_window_too_large", lambda s: [raw(4, 0, b"\0\4\x80\0\0\0")])
frame_script("settings_frame_size_too_small", lambda s: [raw(4, 0, b"\0\5\0\0\0\1")])
frame_script("padding_longer_than_the_frame", lambda s: [raw(1, s, b"\xff" + OK, 4 | 8)])
frame_script("frame_larger_than_allowed", lambda s: [raw(0, s, bytes(16385))])
frame_script("frame_of_16_megabytes_announced", lambda s: [raw(0, s, b"x", 0, 0xFFFFFF)])
frame_script("headers_interrupted", lambda s: [HeadersFrame(s, OK), PingFrame(0, bytes(8))])
frame_script(
    "push_promise",
    lambda s: [PushPromiseFrame(s, promised_stream_id=2, data=OK, flags=["END_HEADERS"])],
)
frame_script("http1_answer", lambda s: [b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"])
frame_script("garbage", lambda s: [b"\xff" + os.urandom(4096)])


@script("E_PROTOCOL")
def http1_from_the_beginning(peer):
    peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    peer.silence(1)


@script("E_PROTOCOL")
def no_settings_first(peer):
    peer.frame(PingFrame(0, b"12345678"))
    peer.silence(1)


def closed_stream_script(name, make):
    """Frames on a stream whose answer is complete: nobody else may suffer."""

    def play(peer):
        peer.start()
        while True:
            stream = peer.next_request()
            peer.answer(stream)
            for frame in make(stream):
                peer.send(frame if isinstance(frame, bytes) else frame.serialize())

    play.__name__ = name
    script("OK", rounds=3, pause=0.05)(play)


closed_stream_script("data_on_a_closed_stream", lambda s: [raw(0, s, b"poison")])
closed_stream_script("headers_on_a_closed_stream", lambda s: [raw(1, s, OK, 4)])
closed_stream_script("reset_on_a_closed_stream", lambda s: [raw(3, s, bytes(4))])
closed_stream_script("window_update_on_a_closed_stream", lambda s: [raw(8, s, b"\0\0\0\1")])
closed_stream_script("much_data_on_a_closed_stream", lambda s: [raw(0, s, bytes(16384))] * 64)


# ---- connections kept


@script("OK", rounds=3, pause=0.1)
def close_while_idle(peer):
    peer.start()
    peer.answer(peer.next_request())
    time.sleep(0.03)


@script("OK", rounds=3, pause=0.1)
def reset_while_idle(peer):
    peer.start()
    peer.answer(peer.next_request())
    time.sleep(0.03)
    peer.reset()


@script({"OK": 1, "E_READ": 1}, rounds=2)
def reset_with_the_next_request_read(peer):
    peer.start()
    peer.answer(peer.next_request())
    peer.next_request()
    time.sleep(0.002)
    peer.reset()


@script("OK", rounds=3, requests=10, also=lambda run: run.server.connections == 1)
def nothing_wrong(peer):
    peer.start().serve()
