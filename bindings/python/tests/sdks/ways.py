"""Clients of the SDKs of OpenAI and Anthropic, by each way to send: the same is expected of all."""

import asyncio
import ssl

import anthropic
import httpx2
import openai

WAYS = ("its own", "llmpool.httpx2", "install")
TEXT = "The pool keeps one connection open and sends"  # of 8 tokens
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
HI = [{"role": "user", "content": "hi"}]
KEY = "mock-key"


class Kit:
    """Makes clients of both SDKs for a server, and uses them.

    Args:
        way: one of WAYS; where it is "install", llmpool.install() has been called.
        kind: "sync" or "async".
    """

    def __init__(self, way, url, ca_file="", kind="sync"):
        self.is_ours = way != "its own"
        self.is_async = kind == "async"
        self._way, self._url = way, url
        self._context = ssl.create_default_context(cafile=ca_file) if ca_file else None

    def _http(self, is_async):
        verify = self._context or True
        if self._way == "llmpool.httpx2":
            import llmpool.httpx2 as ours

            return (ours.AsyncClient if is_async else ours.Client)(verify=verify)
        return (httpx2.AsyncClient if is_async else httpx2.Client)(verify=verify)

    def _make(self, made, url, is_async, options):
        options = {"max_retries": 0, "api_key": KEY, **options}
        return made(base_url=url, http_client=self._http(is_async), **options)

    def openai(self, **options):
        return self._make(openai.OpenAI, self._url + "/v1", False, options)

    def async_openai(self, **options):
        return self._make(openai.AsyncOpenAI, self._url + "/v1", True, options)

    def anthropic(self, **options):
        return self._make(anthropic.Anthropic, self._url, False, options)

    def async_anthropic(self, **options):
        return self._make(anthropic.AsyncAnthropic, self._url, True, options)

    # ---- of the kit's kind

    def use(self, sdk, act, **options):
        """act(client), where an async client's is awaited: of openai or anthropic, the module."""
        name = sdk.__name__
        if not self.is_async:
            with getattr(self, name)(**options) as client:
                return act(client)

        async def main():
            async with getattr(self, f"async_{name}")(**options) as client:
                return await act(client)

        return asyncio.run(main())

    def read(self, sdk, act, **options):
        """What the stream, or the pages, that act(client) returns have in them."""
        if not self.is_async:
            return self.use(sdk, lambda client: list(act(client)), **options)

        async def read(client):
            answer = act(client)
            if hasattr(answer, "__await__"):
                answer = await answer
            return [each async for each in answer]

        return self.use(sdk, read, **options)

    def leave(self, sdk, act, **options):
        """The first part of the stream that act(client) returns, which is then closed."""
        if not self.is_async:

            def leave(client):
                stream = act(client)
                first = next(iter(stream))
                stream.close()
                return first

            return self.use(sdk, leave, **options)

        async def leave_async(client):
            stream = await act(client)
            first = await stream.__aiter__().__anext__()
            await stream.close()
            return first

        return self.use(sdk, leave_async, **options)

    def cancel(self, sdk, act, **options):
        """Cancels the task that reads the stream, when its first part is there."""

        async def main():
            begun = asyncio.Event()

            async def read():
                async with getattr(self, f"async_{sdk.__name__}")(**options) as client:
                    async for _ in await act(client):
                        begun.set()

            task = asyncio.ensure_future(read())
            await asyncio.wait_for(begun.wait(), 10)
            task.cancel()
            await asyncio.wait((task,))
            return task.cancelled()

        return asyncio.run(main())

    def within(self, sdk, act, look, **options):
        """look(what is there) in the block of act(client), for a list of what the SDK yields there,
        or for the whole."""
        if not self.is_async:

            def inside(client):
                with act(client) as opened:
                    return list(look(opened))

            return self.use(sdk, inside, **options)

        async def inside_async(client):
            async with act(client) as opened:
                return [each async for each in look(opened)]

        return self.use(sdk, inside_async, **options)
