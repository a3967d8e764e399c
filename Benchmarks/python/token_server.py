"""token_server.py PORT [CERTIFICATE KEY] - streams of tokens on granian, each token with the time of its sending.

    /tokens?streams=N&tokens=K&rate=R
    /endless?name=X, /left?name=X

The first answers with a text/event-stream at once, and once N of them are open with K tokens in each, R a second, the
streams spread evenly over the interval. A token says its number, the CLOCK_MONOTONIC nanoseconds when it was handed to
the server, and by how many microseconds that was later than due. One task sends the tokens of all streams: a timer for
each token would cost more than the token. The second sends a token each 10 ms until its client leaves, the third says
when that was seen, in the same nanoseconds.

With a certificate HTTP/2, else HTTP/1.1. Ends by itself after an hour.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs

HEAD = {
    "type": "http.response.start", "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")],
}  # fmt: skip
PADDING = b"x" * 160  # as long as a chunk of a chat completion
TICK = 0.001  # what falls due within it is sent together
LEAD = 0.2  # seconds between the last stream's opening and the first token


class Group:
    """The streams of one run."""

    def __init__(self, streams, tokens, rate):
        self.streams, self.tokens, self.rate = streams, tokens, rate
        self.members = []  # (send, future of the end)

    async def join(self, send):
        ended = asyncio.get_running_loop().create_future()
        self.members.append((send, ended))
        if len(self.members) == self.streams:
            asyncio.ensure_future(self.run())
        return await ended

    async def run(self):
        count, interval = len(self.members), 1 / self.rate
        begin = time.monotonic() + LEAD
        members = list(self.members)
        for index in range(self.tokens * count):
            number, member = divmod(index, count)
            due = begin + (number + member / count) * interval
            late = time.monotonic() - due
            if late < 0:
                await asyncio.sleep(max(-late, TICK))
                late = time.monotonic() - due
            send, ended = members[member]
            if not ended.done():
                await self.send(send, ended, number, late)
        for _, ended in members:
            if not ended.done():
                ended.set_result(None)

    async def send(self, send, ended, number, late):
        text = b'data: {"n":%d,"at":%d,"late":%d,"text":"%b"}\n\n' % (
            number, time.monotonic_ns(), late * 1e6, PADDING,
        )  # fmt: skip
        try:
            await send({"type": "http.response.body", "body": text, "more_body": True})
        except Exception as error:
            ended.set_exception(error)


groups = {}
left = {}  # name: when its client left; None: it is here


async def endless(name, receive, send):
    left[name] = None

    async def pace():
        await send(HEAD)
        while True:
            await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
            await asyncio.sleep(0.01)

    pacing = asyncio.ensure_future(pace())
    while (await receive())["type"] != "http.disconnect":
        pass
    left[name] = time.monotonic_ns()
    pacing.cancel()


async def tell(name, send):
    text = str(left.get(name) or 0).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text, "more_body": False})


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await receive()
    query = parse_qs(scope["query_string"].decode())
    if scope["path"] == "/endless":
        return await endless(query["name"][0], receive, send)
    if scope["path"] == "/left":
        return await tell(query["name"][0], send)
    key = tuple(int(query[name][0]) for name in ("streams", "tokens", "rate"))
    group = groups.setdefault(key, Group(*key))
    if len(group.members) == group.streams:  # of an earlier run
        group = groups[key] = Group(*key)
    await send(HEAD)
    await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
    await group.join(send)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


async def serve(port, certificate=None, key=None):
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server

    tls = {"ssl_cert": Path(certificate), "ssl_key": Path(key)} if certificate else {}
    server = Server(
        app, address="127.0.0.1", port=int(port), interface=Interfaces.ASGI, websockets=False, backlog=4096,
        http=HTTPModes.http2 if certificate else HTTPModes.http1, backpressure=16384, log_enabled=False, **tls,
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    loop.call_later(3600, server.stop)
    await server.serve()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(*sys.argv[1:]))
