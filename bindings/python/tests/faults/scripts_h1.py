"""What HTTP/1.1 servers do wrong. The statuses are what design and llmpool.h promise."""

import functools
import os
import time

from server import script as any_script

script = functools.partial(any_script, h2=False)
BIG = bytes(8 << 20)  # more than the kernel takes off a client's hands unread
TLS, PLAIN = (True,), (False,)


# ---- silence


@script("E_READ_TIMEOUT")
def accept_and_say_nothing(peer):
    peer.request()
    peer.silence()


@script("E_FIRST_BYTE_TIMEOUT", timeout={"first_byte": 0.3, "read": 10})
def silence_before_the_first_byte(peer):
    peer.request()
    peer.silence()


@script("E_CONNECT_TIMEOUT", tls=TLS, before_tls=True, pool={"connect": 0.3})
def silence_in_the_handshake(peer):
    peer.silence()


@script("E_READ_TIMEOUT")
def silence_in_the_head(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-le")
    peer.silence()


@script("E_READ_TIMEOUT")
def silence_in_the_body(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    peer.silence()


@script("E_READ_TIMEOUT", stream=True)
def silence_in_a_streamed_body(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    peer.silence()


@script("E_TOTAL_TIMEOUT", timeout={"total": 0.5})
def never_silent_and_never_done(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        peer.send(b"x")
        time.sleep(0.02)


@script("E_WRITE_TIMEOUT", body=BIG, cpu=0.1)
def never_reads_the_request(peer):
    peer.silence()


@script("E_WRITE_TIMEOUT", body=BIG, cpu=0.1)
def reads_half_of_the_request(peer):
    peer.request(whole=False)
    peer.read(1 << 20)
    peer.silence()


# ---- reset and closed in every phase


@script("E_CONNECT or E_READ or E_WRITE", tls=PLAIN)
def reset_at_accept(peer):
    peer.reset()


@script("E_TLS or E_CONNECT", tls=TLS, before_tls=True)
def reset_before_the_handshake(peer):
    peer.reset()


@script("E_TLS", tls=TLS, before_tls=True)
def reset_in_the_handshake(peer):
    peer.recv()
    peer.reset()


@script("E_TLS", tls=TLS, before_tls=True)
def close_in_the_handshake(peer):
    peer.recv()


@script("E_TLS", tls=TLS, before_tls=True)
def garbage_in_the_handshake(peer):
    peer.recv()
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    peer.silence(1)


@script("E_TLS", tls=TLS, before_tls=True)
def alert_in_the_handshake(peer):
    peer.recv()
    peer.send(b"\x15\x03\x03\x00\x02\x02\x28")  # handshake_failure
    peer.silence(1)


@script("E_READ")
def reset_after_the_request(peer):
    peer.request()
    peer.reset()


@script("E_READ or E_WRITE", body=BIG)
def reset_in_the_request(peer):
    peer.request(whole=False)
    peer.read(100_000)
    peer.reset()


@script("E_READ or E_WRITE", body=BIG)
def close_in_the_request(peer):
    peer.request(whole=False)
    peer.close()


@script("E_READ")
def reset_in_the_head(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent")
    time.sleep(0.02)
    peer.reset()


@script("E_READ")
def reset_in_the_body(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    time.sleep(0.02)
    peer.reset()


@script("E_READ", stream=True)
def reset_in_a_streamed_body(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    time.sleep(0.02)
    peer.reset()


@script("E_READ")
def close_after_the_request(peer):
    peer.request()


@script("E_READ")
def close_in_the_head(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent")


@script("E_READ")
def close_in_the_body(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")


@script("E_READ")
def close_before_the_last_chunk(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")


@script("E_READ")
def close_after_an_interim_answer(peer):
    peer.request()
    peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")


UNTIL_CLOSE = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"


@script("OK")
def a_body_that_ends_with_the_connection(peer):
    request = peer.request()
    peer.send((UNTIL_CLOSE + request.nonce).encode())
    peer.say_goodbye()


@script("E_READ", tls=TLS)
def the_same_without_close_notify(peer):
    request = peer.request()
    peer.send((UNTIL_CLOSE + request.nonce).encode())


@script("E_READ")
def the_same_ended_by_a_reset(peer):
    request = peer.request()
    peer.send((UNTIL_CLOSE + request.nonce).encode())
    time.sleep(0.02)
    peer.reset()


# ---- slow, early


@script("OK", rounds=2)
def answer_in_single_bytes(peer):
    while True:
        nonce = peer.request().nonce.encode()
        peer.send_in_pieces(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx: y\r\n\r\n"
            b"%x;a=b\r\n%b\r\n0\r\nt: u\r\n\r\n" % (len(nonce), nonce)
        )


@script("OK or E_PROTOCOL or E_WRITE or E_READ", answers=0)
def answer_before_there_is_a_request(peer):
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    peer.wait_closed(0.5)


@script("OK", body=BIG)
def complete_answer_before_the_body_is_read(peer):
    peer.answer(peer.request(whole=False))
    peer.silence(1)


@script("OK", body=BIG, answers=413)
def refusal_before_the_body_is_read(peer):
    peer.answer(peer.request(whole=False), "413 Content Too Large")
    peer.silence(1)


@script("OK", body=BIG, answers=413)
def refusal_before_the_body_is_read_then_reset(peer):
    peer.answer(peer.request(whole=False), "413 Content Too Large", "connection: close\r\n")
    time.sleep(0.05)
    peer.reset()


@script("OK", body=BIG)
def success_that_begins_before_the_body_is_read(peer):
    """An early 2xx does not stop the request: the server gets all of it."""
    request = peer.request(whole=False)
    nonce = request.nonce.encode()
    peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n%b\r\n" % nonce[:1])
    time.sleep(0.05)
    peer.read(len(BIG))
    peer.buffer = b""
    rest = nonce[1:]
    peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
    peer.serve()


# ---- framing that two readers would read differently


@script("OK", rounds=2)
def two_answers_for_one_request(peer):
    nonce = peer.request().nonce.encode()
    one = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(nonce), nonce)
    peer.send(one + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
    peer.wait_closed(1)


READ_AT_ONCE = 65536  # of a connection, before others have their turn


@script("OK", tls=PLAIN, requests=4, rounds=5, pool={"connections": 1})
def an_answer_nobody_asked_for_behind_a_full_read(peer):
    """The first answer ends with the read: what follows lies in TLS or in the kernel.

    It lies there because the interim answers before have made room for all of it in the client's
    receive buffer: what comes only after the next request was sent, no client can tell apart.
    """
    hint = b"HTTP/1.1 103 Early Hints\r\nx: " + b"y" * 30_000 + b"\r\n\r\n"
    while True:
        nonce = peer.request().nonce
        for _ in range(20):
            peer.send(hint)
        time.sleep(0.03)
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(nonce)}\r\nx: "
        padding = "y" * (READ_AT_ONCE - len(head) - len(nonce) - 4)
        one = f"{head}{padding}\r\n\r\n{nonce}".encode()
        assert len(one) == READ_AT_ONCE
        peer.send(one + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")


@script("OK", rounds=2)
def a_body_where_none_may_be(peer):
    peer.request()
    peer.send(b"HTTP/1.1 204 No Content\r\n\r\npoison")
    peer.wait_closed(1)


@script("OK", rounds=2, method="HEAD")
def a_body_in_answer_to_head(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
    peer.wait_closed(1)


def head_script(name, headers, expect="E_PROTOCOL", body=b"hello", status=b"HTTP/1.1 200 OK"):
    """An answer with such a head; the connection stays open."""

    def play(peer):
        peer.request()
        peer.send(status + b"\r\n" + headers + b"\r\n" + body)
        peer.silence(1)

    play.__name__ = name
    script(expect, parsing=True)(play)


LENGTH = b"content-length: 5\r\n"
head_script("both_length_and_chunked", LENGTH + b"transfer-encoding: chunked\r\n",
            body=b"5\r\nhello\r\n0\r\n\r\n")  # fmt: skip
head_script("length_with_a_plus", b"Content-Length: +5\r\n")
head_script("length_negative", b"Content-Length: -5\r\n")
head_script("length_beyond_64_bits", b"Content-Length: 18446744073709551621\r\n")
head_script("length_of_2_to_63", b"Content-Length: 9223372036854775808\r\n")
head_script("length_in_hexadecimal", b"Content-Length: 0x5\r\n")
head_script("length_empty", b"Content-Length:\r\n")
head_script("length_with_blanks_within", b"Content-Length: 5 5\r\n")
head_script("two_lengths", LENGTH + b"content-length: 6\r\n")
head_script("two_lengths_in_a_list", b"content-length: 5, 6\r\n")
head_script("chunked_twice", b"transfer-encoding: chunked, chunked\r\n")
head_script("unknown_transfer_coding", b"transfer-encoding: gzip, chunked\r\n")
head_script("nul_in_a_value", LENGTH + b"x: a\0b\r\n")
head_script("nul_in_a_name", LENGTH + b"x\0: a\r\n")
head_script("carriage_return_in_a_value", LENGTH + b"x: a\rb\r\n")
head_script("space_before_the_colon", b"content-length : 5\r\n")
head_script("header_without_a_colon", LENGTH + b"nonsense\r\n")
head_script("header_without_a_name", LENGTH + b": x\r\n")
head_script("http_3_0", LENGTH, status=b"HTTP/3.0 200 OK")
head_script("http_2_0", LENGTH, status=b"HTTP/2.0 200 OK")
head_script("http_1_2", LENGTH, status=b"HTTP/1.2 200 OK")
head_script("http_without_a_version", LENGTH, status=b"HTTP 200 OK")
head_script("icy", LENGTH, status=b"ICY 200 OK")
head_script("status_of_two_digits", LENGTH, status=b"HTTP/1.1 20 OK")
head_script("status_of_four_digits", LENGTH, status=b"HTTP/1.1 2000 OK")
head_script("status_negative", LENGTH, status=b"HTTP/1.1 -20 OK")
head_script("nul_in_the_reason", LENGTH, status=b"HTTP/1.1 200 O\0K")
head_script("switching_protocols", b"upgrade: x\r\n", body=b"", status=b"HTTP/1.1 101 Switch")
head_script("interim_answer_with_a_body", LENGTH, status=b"HTTP/1.1 100 Continue")

CHUNKED = b"transfer-encoding: chunked\r\n"
head_script("chunk_size_negative", CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n")
head_script("chunk_size_with_a_plus", CHUNKED, body=b"+5\r\nhello\r\n0\r\n\r\n")
head_script("chunk_size_with_0x", CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n")
head_script("chunk_size_beyond_64_bits", CHUNKED, body=b"10000000000000005\r\nhello\r\n0\r\n\r\n")
head_script("chunk_size_missing", CHUNKED, body=b"\r\nhello\r\n0\r\n\r\n")
head_script("chunk_longer_than_its_size", CHUNKED, body=b"4\r\nhello\r\n0\r\n\r\n")
head_script("chunk_ended_by_a_line_feed", CHUNKED, body=b"5\nhello\n0\n\n")
head_script("nul_in_a_trailer", CHUNKED, body=b"5\r\nhello\r\n0\r\nx: a\0b\r\n\r\n")


@script("E_PROTOCOL")
def http_0_9(peer):
    peer.request()
    peer.send(b"<html>hello</html>\n")


@script("E_PROTOCOL")
def garbage(peer):
    peer.request()
    peer.send(b"\xff" + os.urandom(4096))
    peer.silence(1)


@script("E_PROTOCOL", tls=PLAIN)
def tls_on_a_plain_port(peer):
    peer.request()
    peer.send(b"\x15\x03\x01\x00\x02\x02\x46")
    peer.silence(1)


@script("E_PROTOCOL", tls=PLAIN)
def http2_on_an_http1_connection(peer):
    peer.request()
    peer.send(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    peer.silence(1)


# ---- bombs


@script("E_TOO_LARGE")
def header_bomb_of_100_000(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % i for i in range(100_000)))
    peer.silence(1)


@script("E_TOO_LARGE")
def header_bomb_of_10_megabytes(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10_000_000)
    peer.silence(1)


@script("E_TOO_LARGE")
def trailer_bomb(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 100_000)
    peer.silence(1)


@script("E_PROTOCOL or E_TOO_LARGE")
def chunk_extension_bomb(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;" + b"x" * 10_000_000)
    peer.silence(1)


@script("E_PROTOCOL or E_TOO_LARGE")
def leading_zeros_bomb(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"0" * 10_000_000)
    peer.silence(1)


@script("E_TOO_LARGE", cpu=0.5)
def endless_interim_answers(peer):
    peer.request()
    while True:
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@script("OK")
def some_interim_answers(peer):
    request = peer.request()
    peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 3)
    peer.answer(request)
    peer.serve()


@script("OK")
def hundreds_of_interim_answers(peer):
    request = peer.request()
    for _ in range(10):
        peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 50)
        time.sleep(0.01)
    peer.answer(request)
    peer.serve()


@script("E_TOO_LARGE", max_response_bytes=100_000)
def a_body_larger_than_the_limit(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n" + bytes(10_000_000))
    peer.silence(1)


@script("E_TOO_LARGE", max_response_bytes=100_000)
def an_endless_body(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        peer.send(b"400\r\n" + bytes(1024) + b"\r\n")


@script("E_TOO_LARGE or E_READ_TIMEOUT")
def a_petabyte_announced(peer):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000000\r\n\r\nx")
    peer.silence()


# ---- connections kept


@script("OK", rounds=3, pause=0.1)
def answer_after_idling(peer):
    """Something arrives while the connection is idle: nobody may take it for his answer."""
    peer.answer(peer.request())
    time.sleep(0.03)
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
    peer.wait_closed(1)


@script("OK", rounds=3, pause=0.1)
def close_while_idle(peer):
    peer.answer(peer.request())
    time.sleep(0.03)


@script("OK", rounds=3, pause=0.1)
def reset_while_idle(peer):
    peer.answer(peer.request())
    time.sleep(0.03)
    peer.reset()


@script("OK or E_READ or E_WRITE", rounds=30)
def close_as_the_next_request_comes(peer):
    """A FIN before the request: where that shows, it is sent again. The kernel resets if the
    request came first; then nothing shows, and it is not."""
    peer.answer(peer.request())


@script({"OK": 1, "E_READ": 1}, rounds=2)
def reset_with_the_next_request_read(peer):
    peer.answer(peer.request())
    peer.request()
    time.sleep(0.002)
    peer.reset()


@script({"OK": 1, "E_READ or E_WRITE": 1}, rounds=2, body=bytes(500_000))
def close_with_half_of_the_next_request_read(peer):
    peer.answer(peer.request())
    peer.request(whole=False)
    peer.read(100_000)
    peer.close()


@script("OK", rounds=3, also=lambda run: run.server.connections == 3)
def close_announced_and_not_done(peer):
    """`Connection: close` binds the client too, whatever the server does."""
    while True:
        peer.answer(peer.request(), headers="connection: close\r\n")


@script("OK", rounds=3, also=lambda run: run.server.connections == 3)
def http_1_0_without_keep_alive(peer):
    while True:
        nonce = peer.request().nonce.encode()
        peer.send(b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(nonce), nonce))


@script("OK", rounds=3, also=lambda run: run.server.connections == 1)
def nothing_wrong(peer):
    peer.serve()


@script("OK", requests=40, also=lambda run: run.server.connections <= 8, pool={"connections": 4})
def every_tenth_connection_lost(peer):
    """Closed by announcement after ten answers each; nobody notices."""
    for i in range(10):
        peer.answer(peer.request(), headers="connection: close\r\n" if i == 9 else "")
