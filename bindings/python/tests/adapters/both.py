"""Both generations of httpx, both kinds of client, one way to call them."""

import asyncio
import importlib
import importlib.util

import pytest

NAMES = [name for name in ("httpx2", "httpx") if importlib.util.find_spec(name)]


class Caller:
    """One kind of client of one generation: what is done with it is done to its end in a call.

    Attributes:
        httpx: the generation itself.
        ours: our module for it.
    """

    def __init__(self, name, kind):
        self.name, self.kind = name, kind
        self.httpx = importlib.import_module(name)
        self.ours = importlib.import_module(f"llmpool.{name}")

    @property
    def client_class(self):
        return self.ours.Client if self.kind == "sync" else self.ours.AsyncClient

    @property
    def transport_class(self):
        return self.ours.Transport if self.kind == "sync" else self.ours.AsyncTransport

    def run(self, act, *arguments):
        """act(*arguments), or the end of its coroutine."""
        if self.kind == "sync":
            return act(*arguments)

        async def limited():
            return await asyncio.wait_for(act(*arguments), 30)

        return asyncio.run(limited())

    def request(self, method, url, *, client=None, **arguments):
        """An answer, read to its end."""
        options = {"trust_env": False, "timeout": 10, **(client or {})}
        if self.kind == "sync":
            with self.client_class(**options) as opened:
                return opened.request(method, url, **arguments)

        async def act():
            async with self.client_class(**options) as opened:
                return await opened.request(method, url, **arguments)

        return self.run(act)

    def stream(self, method, url, *, client=None, begun=lambda: None, **arguments):
        """(response, raw pieces as far as they came, what the iteration raised); begun() is called
        with each piece."""
        options = {"trust_env": False, "timeout": 10, **(client or {})}
        pieces = []
        if self.kind == "sync":
            with (
                self.client_class(**options) as opened,
                opened.stream(method, url, **arguments) as response,
            ):
                try:
                    for piece in response.iter_raw():
                        pieces.append(piece)
                        begun()
                except self.httpx.HTTPError as error:
                    return response, pieces, error
            return response, pieces, None

        async def act():
            async with (
                self.client_class(**options) as opened,
                opened.stream(method, url, **arguments) as response,
            ):
                try:
                    async for piece in response.aiter_raw():
                        pieces.append(piece)
                        begun()
                except self.httpx.HTTPError as error:
                    return response, pieces, error
            return response, pieces, None

        return self.run(act)

    def body(self, pieces):
        """A generator of them, as this kind of client takes it."""
        if self.kind == "sync":
            return iter(list(pieces))

        async def generate():
            for piece in pieces:
                await asyncio.sleep(0)
                yield piece

        return generate()


CALLERS = [
    pytest.param((name, kind), id=f"{name}-{kind}") for name in NAMES for kind in ("sync", "async")
]
