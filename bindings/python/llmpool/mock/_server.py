"""The mock as a subprocess of a test or a demonstration."""

import json
import os
import select
import subprocess
import sys
from typing import Any, Dict, List, Optional


class MockServer:
    """Runs python -m llmpool.mock on a free port while its with block lasts.

    Args:
        tls: with a certificate whose CA is in ca_file.
        http: "1", "2" or "auto".
        api_key: the key to accept; "" accepts any.
        max_seconds: [0] it ends by itself after this; 0: with this process, however that ends.
        start_timeout: [30] seconds to wait until it is ready.
        options: the others of the command, as ttft=0.1 for --ttft 0.1.

    Attributes, while it runs:
        url: as "https://127.0.0.1:40123".
        ca_file: PEM file of the CA to trust; None without TLS.
        pid: of the process.

    Raises:
        RuntimeError: it did not start; the message has what it wrote.
    """

    def __init__(
        self,
        *,
        tls: bool = True,
        http: str = "auto",
        api_key: str = "mock-key",
        max_seconds: float = 0,
        start_timeout: float = 30,
        **options: Any,
    ) -> None:
        self.api_key = api_key
        self.url = ""
        self.ca_file: Optional[str] = None
        self.pid = 0
        self._start_timeout = start_timeout
        self._process: Optional[subprocess.Popen[str]] = None
        self._command: List[str] = [
            sys.executable, "-m", "llmpool.mock",
            "--tls" if tls else "--no-tls",
            "--http", http,
            f"--api-key={api_key}",
            f"--max-seconds={max_seconds}",
            "--until-stdin-ends",
        ]  # fmt: skip
        for name, value in options.items():
            self._command.append(f"--{name.replace('_', '-')}={value}")

    @property
    def headers(self) -> Dict[str, str]:
        """The key as OpenAI and as Anthropic want it."""
        return {"authorization": f"Bearer {self.api_key}", "x-api-key": self.api_key}

    def start(self) -> "MockServer":
        # A session of its own: Ctrl-C at a terminal is for the parent, which then stops this.
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
            start_new_session=True,
        )
        try:
            ready = json.loads(self._first_line())
        except BaseException as error:
            self._process.kill()
            _, problem = self._process.communicate()
            self._process = None
            if isinstance(error, (ValueError, TimeoutError)):
                raise RuntimeError(f"llmpool.mock did not start: {problem.strip()}") from None
            raise
        self.url, self.ca_file, self.pid = ready["url"], ready["ca_file"], ready["pid"]
        return self

    def _environment(self) -> Dict[str, str]:
        # The same package as here, wherever it was imported from.
        here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.environ.get("PYTHONPATH")
        return {**os.environ, "PYTHONPATH": here + (os.pathsep + path if path else "")}

    def _first_line(self) -> str:
        assert self._process is not None and self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self._start_timeout)[0]:
            raise TimeoutError
        return self._process.stdout.readline()

    def stats(self) -> Dict[str, Any]:
        """What the server counts: "calls" so far, "streams" that it has open, and streams whose
        client "left" before their end; the "connections" that calls came over; calls by "paths",
        as {"POST /v1/embeddings": 3}, and by "versions" of HTTP, as {"1.1": 1, "2": 2}; and, by
        model, in "limits", calls "served", "refused", "refused_concurrent" and "overloaded", the
        "tokens" taken, those of "input" and of "output", and calls "in_flight" with their "peak".
        Asked over a connection of its own, which does not count."""
        counts: Dict[str, Any] = self._get("/_mock/stats")
        return counts

    def calls(self, since: int = 0) -> List[List[Any]]:
        """The calls of models behind the first so many, in the order in which their answers began.

        Each is [seconds since the start of the server, when it was admitted or refused; model, ""
        of an error by chance; status, 0 where the client left before; tokens that it was admitted
        for, 0 where it was not; seconds from its arrival to the start of its answer; the request's
        header x-call, or its id; calls of the model in flight then, with itself if it was
        admitted]. The last 100,000 are kept.
        """
        calls: List[List[Any]] = self._get(f"/_mock/calls?since={since}")
        return calls

    def _get(self, path: str) -> Any:
        import ssl
        from urllib.request import urlopen

        context = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        with urlopen(self.url + path, timeout=10, context=context) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """Ends the process; twice does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def __enter__(self) -> "MockServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
