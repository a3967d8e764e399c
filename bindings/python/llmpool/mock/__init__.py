"""A mock LLM server, for tests and demonstrations without an account.

    python -m llmpool.mock --ttft 0.2 --tokens-per-second 50

speaks the APIs of OpenAI, Anthropic, Gemini, Mistral and Cohere, as far as their SDKs mostly go,
whole and streamed, over HTTP/1.1 and HTTP/2, with TLS; --help has the list. It needs granian:
pip install "libllmpool[mock]".

    with llmpool.mock.MockServer(ttft=0.1) as server:
        pool = llmpool.Pool(ca_file=server.ca_file)
        client = llmpool.Client(base_url=server.url + "/v1", headers=server.headers, pool=pool)
"""

from ._server import MockServer

__all__ = ["MockServer"]
