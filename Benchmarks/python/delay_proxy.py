"""delay_proxy.py PORT TARGET_PORT ONE_WAY_MS - passes bytes on ONE_WAY_MS later, in both directions, on loopback.
It prints the port that it listens on: PORT, or one that is free where that is 0. scripts/demo uses it, too.

TCP's handshake costs nothing on loopback, so what comes first on a new connection waits for one round trip
more. TLS and HTTP cross the delay as they are."""

import asyncio
import sys


class Side(asyncio.Protocol):
    """One direction: what arrives here leaves by `other`, later and in order."""

    def __init__(self, delay, extra=0.0):
        self.delay, self.extra, self.other, self.held = delay, extra, None, []
        self.loop = asyncio.get_running_loop()
        self.until = 0.0

    def connection_made(self, transport):
        self.transport = transport
        self.until = self.loop.time() + self.extra

    def data_received(self, data):
        self.loop.call_at(max(self.loop.time(), self.until) + self.delay, self.pass_on, data)

    def connection_lost(self, error):
        self.loop.call_at(max(self.loop.time(), self.until) + self.delay, self.pass_on, None)

    def pass_on(self, data):
        if self.other is None:
            self.held.append(data)
        elif data is None:
            self.other.transport.close()
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)


class Accepted(Side):
    def __init__(self, delay, target):
        super().__init__(delay, 2 * delay)
        self.target = target

    def connection_made(self, transport):
        super().connection_made(transport)
        self.connecting = self.loop.create_task(self.connect())

    async def connect(self):
        _, far = await self.loop.create_connection(lambda: Side(self.delay), "127.0.0.1", self.target)
        self.other, far.other = far, self
        for data in self.held:
            self.pass_on(data)


async def main():
    port, target, delay = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000
    server = await asyncio.get_running_loop().create_server(lambda: Accepted(delay, target), "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


try:
    import uvloop
except ImportError:  # slower; for a demonstration it does
    asyncio.run(main())
else:
    uvloop.run(main())
