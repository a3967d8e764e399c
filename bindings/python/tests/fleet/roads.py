"""The network between members and their store, which a test may slow, cut and lead elsewhere."""

import asyncio
import contextlib
import threading


class Road:
    """A port that leads to another: to a store, or to a provider.

    Args:
        target: a port of 127.0.0.1, or the path of a Unix socket.
        path: of a Unix socket that leads there, instead of a port.

    Attributes:
        port: of 127.0.0.1, which leads there.
        delay: seconds that each piece takes, both ways.
    """

    def __init__(self, target, path=None):
        self.delay = 0.0
        self._target = target
        self._open = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        if path is None:
            self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
            self.port = self._server.sockets[0].getsockname()[1]
        else:
            self._server = self._run(asyncio.start_unix_server(self._serve, path))

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def lead(self, target):
        """To another port from now on, or nowhere: what is sent then is lost."""
        self._target = target
        self._run(self._close_all())

    def cut(self):
        self.lead(None)

    async def _close_all(self):
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self._open.add(writer)
        try:
            if self._target is None:
                await reader.read()
                return
            if isinstance(self._target, int):
                far = await asyncio.open_connection("127.0.0.1", self._target)
            else:
                far = await asyncio.open_unix_connection(self._target)
            self._open.add(far[1])
            try:
                await asyncio.gather(self._carry(reader, far[1]), self._carry(far[0], writer))
            finally:
                self._open.discard(far[1])
                far[1].close()
        except OSError:
            pass  # of either side: both see the connection end
        finally:
            self._open.discard(writer)
            writer.close()

    async def _carry(self, reader, writer):
        while piece := await reader.read(65536):
            if self.delay:
                await asyncio.sleep(self.delay)
            writer.write(piece)
        writer.close()

    def end(self):
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self):
        self._server.close()
        await self._close_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
