"""The command line of the mock, and the process that serves."""

import argparse
import asyncio
import json
import os
import signal
import socket
import ssl
import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any, List, Optional

from ._admission import changes_of
from ._app import STATS, App
from ._certificate import Certificate, make_certificate
from ._failures import __doc__ as _FAILURES
from ._settings import Settings

# Client preface and an empty SETTINGS frame (RFC 9113 3.4).
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_HTTP1_HELLO = f"GET {STATS} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()


_ABOUT = """\
Serves these APIs with made-up answers. Prints one line of JSON (url, ca_file, api_key, pid) when it
is ready.

    OpenAI     chat completions, responses, embeddings, files, batches, models     URL/v1
    Anthropic  messages, count_tokens, batches, models                             URL
    Gemini     generateContent, streamGenerateContent, embedContent, countTokens   URL
    Mistral    chat, embeddings, models: by the user agent of its SDK              URL
    Cohere     chat, embed, rerank of its second API                               URL

Tools are called, each once, until they have results; JSON is valid for the schema that a request
has, if that is a simple one.

URL/_mock/stats tells what was called, over how many connections, and by model, in "limits", what
was served, refused and taken. URL/_mock/calls?since=K has the calls of models behind the first K,
in the order in which their answers began: [seconds since the start, when it was admitted or
refused; model; status, 0 where the client left before; tokens; seconds from its arrival to its
answer; the request's x-call, or its id; calls in flight of the model then]. The header x-next has
the next K; the last 100,000 are kept. A model whose name begins with nolimit- has no limits.
"""

_ABOUT_LIMITS = """\
Of each key and model. A call takes the tokens of its prompt, and its maximum of them, or what the
mock will answer where it sets none. Anthropic's output is taken when it is produced, and calls are
refused where none of it is left; of Gemini only the prompt counts. Calls that fail by chance or by
name take nothing.
"""


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def parser() -> argparse.ArgumentParser:
    defaults = Settings()
    command = argparse.ArgumentParser(
        prog="python -m llmpool.mock",
        description=_ABOUT,
        epilog=_FAILURES,
        formatter_class=_Help,
    )
    add = command.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="0: one that is free")
    add(
        "--tls",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with a certificate made at start, whose CA is in ca_file",
    )
    add("--http", choices=("1", "2", "auto"), default="auto", help="HTTP versions to speak")
    add("--ttft", type=float, default=defaults.ttft, help="seconds to the first token")
    add(
        "--tokens-per-second",
        type=float,
        default=defaults.tokens_per_second,
        help="speed of an answer; 0: at once",
    )
    add("--tokens", type=int, default=defaults.tokens, help="length of an answer")
    add(
        "--error-rate",
        type=float,
        default=defaults.error_rate,
        help="from 0 to 1: calls that get 429, 500, 503 or 529",
    )
    add(
        "--retry-after",
        type=float,
        default=defaults.retry_after,
        help="seconds, sent with 429, 503 and 529",
    )
    add(
        "--alive-interval",
        type=float,
        default=defaults.alive_interval,
        help="seconds between what a stream that stalls or thinks still brings",
    )
    _add_limits(command, defaults)
    add("--seed", type=int, default=defaults.seed, help="chooses which calls get an error")
    add("--api-key", default=defaults.api_key, help="the key to accept; empty: any")
    add("--models", default=defaults.models, help="the only ones, as gpt-a,gpt-b; empty: any")
    add("--max-seconds", type=float, default=0, help="ends by itself after this; 0: never")
    add("--until-stdin-ends", action="store_true", help="ends with who started it")
    add("--workers", type=int, choices=(1,), default=1, help="processes")
    return command


def _add_limits(command: argparse.ArgumentParser, defaults: Settings) -> None:
    group = command.add_argument_group(
        "limits",
        _ABOUT_LIMITS,
    )

    def add(name: str, what: str, **how: Any) -> None:
        default = getattr(defaults, name[2:].replace("-", "_"))
        group.add_argument(name, default=default, help=what, **how)

    add(
        "--limits",
        "enforce: calls over a limit get 429; count: the headers tell what is left, nothing is "
        "refused; off: no headers",
        choices=("off", "count", "enforce"),
    )
    add("--requests-per-minute", "0: no limit, and no headers of it", type=int)
    add("--tokens-per-minute", "the same of tokens", type=int)
    add("--input-tokens-per-minute", "of Anthropic and Gemini; 0: as of tokens", type=int)
    add("--output-tokens-per-minute", "of Anthropic; 0: as of tokens", type=int)
    add(
        "--limit-window",
        "seconds of refill that can be saved: 1 makes 10 a second of 600 a minute, and says so",
        type=_above_0,
    )
    add("--limits-start", "what a key finds at its first call", choices=("full", "empty"))
    add(
        "--stranger",
        "from 0 to below 1: how much of each limit somebody else takes, evenly",
        type=_part,
    )
    add(
        "--limit-clock-offset",
        "seconds by which the clock of the dates and resets is ahead",
        type=float,
    )
    add("--max-concurrent", "calls in flight; more get 429 with no headers; 0: any", type=int)
    add(
        "--max-concurrent-after",
        "SECONDS:N, with commas between several: what it is from then on",
        type=_changes,
    )
    add("--overload", "calls in flight of all; more get 503 or 529; 0: any", type=int)


def _above_0(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def _part(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise ValueError
    return number


def _changes(text: str) -> str:
    changes_of(text)
    return text


def _reserve(host: str, port: int) -> socket.socket:
    """A bound socket that never listens: it only holds the port for the server to share.

    Raises:
        OSError: another process listens there. It would share the port, and half of the calls.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port:
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                alone.bind((host, port))
            except OSError as error:
                raise OSError(f"cannot listen on port {port} of {host}: {error.strerror}") from None
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    return held


async def _answers(host: str, port: int, ca_file: Optional[str], http: str) -> bool:
    context = None
    if ca_file:
        context = ssl.create_default_context(cafile=ca_file)
        context.check_hostname = False
        context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError:
        return False
    try:
        if context is not None:
            return True
        writer.write(_HTTP2_HELLO if http == "2" else _HTTP1_HELLO)
        return bool(await asyncio.wait_for(reader.read(1), 5))
    except (OSError, asyncio.TimeoutError):
        return False
    finally:
        writer.close()


async def _serve(arguments: argparse.Namespace, certificate: Optional[Certificate]) -> None:
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server

    given = vars(arguments)
    settings = Settings(**{field.name: given[field.name] for field in fields(Settings)})
    host = arguments.host
    held = _reserve(host, arguments.port)
    port = held.getsockname()[1]
    tls: Any = {}
    if certificate:
        tls = {"ssl_cert": Path(certificate.chain_file), "ssl_key": Path(certificate.key_file)}
    server = Server(
        App(settings),
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes(arguments.http),
        websockets=False,
        backlog=1024,
        backpressure=16384,
        log_enabled=False,
        **tls,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    if arguments.max_seconds > 0:
        loop.call_later(arguments.max_seconds, server.stop)
    if arguments.until_stdin_ends:
        stop: Any = server.stop
        loop.add_reader(0, lambda: None if os.read(0, 4096) else stop())
    serving = loop.create_task(server.serve())
    ca_file = certificate.ca_file if certificate else None
    while not await _answers(host, port, ca_file, arguments.http):
        if serving.done():
            break
        await asyncio.sleep(0.02)
    if not serving.done():
        shown = f"[{host}]" if ":" in host else host
        ready = {
            "url": f"{'https' if certificate else 'http'}://{shown}:{port}",
            "ca_file": ca_file,
            "api_key": arguments.api_key,
            "pid": os.getpid(),
        }
        print(json.dumps(ready), flush=True)
    await serving
    held.close()


def main(argv: Optional[List[str]] = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        import granian  # noqa: F401
    except ImportError:
        print('the mock needs granian: pip install "libllmpool[mock]"', file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="llmpool-mock-") as directory:
        try:
            certificate = make_certificate(directory) if arguments.tls else None
            asyncio.run(_serve(arguments, certificate))
        except (RuntimeError, OSError) as error:
            print(f"llmpool.mock: {error}", file=sys.stderr)
            return 1
    return 0
