"""The servers under the benchmarks: nginx, nghttpd, the stream server in C, the mock on granian and the delay proxy.
Each is a context manager; inside, `url` (or `port`) says where it listens. They stop when the block ends."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "bindings" / "python" / "tests"))

from processes import free_port, make_authority, make_certificate, redis_server, running

BUILD = HERE.parent / "build" / "bench"
EVENTS_PER_FILE = 2000
ANSWER_BYTES = 1024

NGINX = """
daemon off; master_process off; worker_processes 1; pid {root}/nginx.pid; error_log stderr crit;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; multi_accept on; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
  types {{ text/event-stream sse; }}
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
  client_body_buffer_size 64k; sendfile on; tcp_nodelay on; open_file_cache max=100;
  ssl_certificate {root}/cert.pem; ssl_certificate_key {root}/cert.key; ssl_session_cache shared:s:1m;
  ssl_protocols TLSv1.2 TLSv1.3; # not the default of nginx before 1.23
  server {{
    listen 127.0.0.1:{port} backlog=8192; listen 127.0.0.1:{tls_port} ssl http2 backlog=8192; root {root};
    {more}
    location = /post {{ return 200 '{answer}'; }}
    location = /v1/chat/completions {{ return 200 '{chat}'; }}
    location = /v1/messages {{ return 200 '{message}'; }}
    location = /stream/chat/completions {{ error_page 405 =200 /events100.sse; return 405; }}
  }}
}}
"""

PROXY = """
daemon off; master_process off; worker_processes 1; pid {root}/proxy.pid; error_log stderr crit;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; multi_accept on; }}
http {{
  access_log off; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
  upstream tokens {{ server 127.0.0.1:{upstream}; keepalive 2000; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location / {{
      proxy_pass http://tokens; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      proxy_read_timeout 120s;
    }}
  }}
}}
"""


def padded(answer):
    """In JSON, with so much content that it is as long as all answers here."""
    padding = ANSWER_BYTES - len(json.dumps(answer("")))
    return json.dumps(answer("y" * padding))


def answer_text():
    start = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    return padded(lambda content: {**start, "content": content})


def chat_text():
    """One of OpenAI's."""

    def answer(content):
        return {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }  # fmt: skip

    return padded(answer)


def message_text():
    """One of Anthropic's."""

    def answer(content):
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "stop_sequence": None, "content": [{"type": "text", "text": content}],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip

    return padded(answer)


def write_files():
    """Certificate, answer, request body and event file, made once."""
    root = BUILD / "root"
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "cert.key").exists():  # not one that signed itself: some clients take none of those
        make_authority(root, "ca", days=365)
        make_certificate(root, "cert", "ca", days=365)
    (root / "post").write_text(answer_text())
    (root / "body").write_text("x" * 2048)
    (root / "body60").write_text("x" * 60)
    (root / "small").write_text("y" * 400)
    chunk = {
        "id": "chatcmpl-123456789", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-mock",
        "system_fingerprint": "fp_44709d6fcb",
        "choices": [{"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}],
    }  # fmt: skip
    event = f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n"
    (root / "events.sse").write_text(event * EVENTS_PER_FILE + "data: [DONE]\n\n")
    (root / "events100.sse").write_text(event * 100 + "data: [DONE]\n\n")
    (root / "post.lua").write_text(
        'wrk.method = "POST"\nwrk.body = string.rep("x", 2048)\n'
        'wrk.headers["content-type"] = "application/json"\nwrk.headers["authorization"] = "Bearer 0123456789abcdef"\n'
    )
    return root


@contextlib.contextmanager
def nginx(origins=0):
    """With so many more addresses: 127.1.0.1, 127.1.0.2 ..."""
    root = write_files()
    port, tls_port = free_port(), free_port()
    config = root / f"nginx-{port}.conf"
    more = " ".join(f"listen 127.1.{index // 250}.{index % 250 + 1}:{port};" for index in range(origins))
    answers = {"answer": answer_text(), "chat": chat_text(), "message": message_text()}
    config.write_text(NGINX.format(root=root, port=port, tls_port=tls_port, more=more, **answers))
    command = [shutil.which("nginx") or "/usr/sbin/nginx", "-c", config, "-p", root]
    try:
        with running(command, port, root):
            yield {
                "url": f"http://127.0.0.1:{port}/post", "tls_url": f"https://127.0.0.1:{tls_port}/post",
                "events": f"http://127.0.0.1:{port}/events.sse",
                "events100": f"http://127.0.0.1:{port}/events100.sse", "base": f"http://127.0.0.1:{port}",
                "ca": str(root / "ca.pem"), "root": str(root), "tls_port": tls_port,
            }  # fmt: skip
    finally:
        config.unlink()


@contextlib.contextmanager
def nginx_and_store():
    """With a Redis, for members of a fleet."""
    with nginx() as server, redis_server(BUILD) as store:
        yield {**server, "store": f"redis://127.0.0.1:{store.port}"}


@contextlib.contextmanager
def nghttpd(streams=100, tls=True):
    root = write_files()
    port = free_port()
    command = [shutil.which("nghttpd") or "/usr/sbin/nghttpd", "-d", root, "-m", str(streams), "-n1"]
    command += [str(port), root / "cert.key", root / "cert.pem"] if tls else ["--no-tls", str(port)]
    with running(command, port, root):
        yield {
            "url": f"{'https' if tls else 'h2c'}://127.0.0.1:{port}/post", "ca": str(root / "ca.pem"),
            "root": str(root), "port": str(port), "plain_url": f"http://127.0.0.1:{port}/post",
            "small_url": f"https://127.0.0.1:{port}/small",
        }  # fmt: skip


@contextlib.contextmanager
def stream_server(interval_ms):
    port = free_port()
    with running([BUILD / "stream_server", str(port), str(interval_ms)], port, BUILD):
        yield {"url": f"h2c://127.0.0.1:{port}/events"}


@contextlib.contextmanager
def mock(tokens_per_second, tokens):
    """The mock on granian, in plain HTTP/1.1."""
    BUILD.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        sys.executable, "-m", "llmpool.mock", "--no-tls", "--http", "1", "--port", str(port),
        "--tokens-per-second", str(tokens_per_second), "--tokens", str(tokens), "--max-seconds", "600",
    ]  # fmt: skip
    path = os.pathsep.join(filter(None, [str(HERE.parent / "bindings" / "python"), os.environ.get("PYTHONPATH")]))
    with running(command, port, BUILD, env={**os.environ, "PYTHONPATH": path}):
        yield {"url": f"http://127.0.0.1:{port}/v1/chat/completions", "base": f"http://127.0.0.1:{port}/v1"}


@contextlib.contextmanager
def token_server(tls=True):
    """Stamped tokens from granian, over HTTP/2 and TLS or plain HTTP/1.1."""
    root = write_files()
    port = free_port()
    command = [sys.executable, HERE / "python" / "token_server.py", str(port)]
    command += [root / "cert.pem", root / "cert.key"] if tls else []
    with running(command, port, root):
        yield {"url": f"{'https' if tls else 'http'}://127.0.0.1:{port}", "port": str(port), "ca": str(root / "ca.pem")}


@contextlib.contextmanager
def proxied_token_server():
    """The same in HTTP/1.1, behind nginx."""
    root = write_files()
    port = free_port()
    config = root / f"proxy-{port}.conf"
    with token_server(tls=False) as server:
        config.write_text(PROXY.format(root=root, port=port, upstream=server["port"]))
        command = [shutil.which("nginx") or "/usr/sbin/nginx", "-c", config, "-p", root]
        try:
            with running(command, port, root):
                yield {"url": f"http://127.0.0.1:{port}", "port": str(port)}
        finally:
            config.unlink()


@contextlib.contextmanager
def far_nginx(one_way_ms=25):
    """nginx with TLS behind the delay proxy, by name."""
    with nginx() as server, delay_proxy(server["tls_port"], one_way_ms) as port:
        yield {"url": f"https://localhost:{port}/post", "ca": server["ca"]}


@contextlib.contextmanager
def delay_proxy(target_port, one_way_ms=25):
    port = free_port()
    command = [sys.executable, HERE / "python" / "delay_proxy.py", str(port), str(target_port), str(one_way_ms)]
    with running(command, port, BUILD):
        yield port
