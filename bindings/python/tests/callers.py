"""Threads that keep a pool at work."""

import contextlib
import threading
import time

import llmpool


class Load:
    """Threads that call a function again and again until the block ends, each every so many seconds
    or, where a call takes longer, at once.

    What the transport says is taken as the answer: to fail is what some are here for.
    """

    def __init__(self, threads, every, call):
        self._call, self._every = call, every
        self._stop = threading.Event()
        self.errors = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self):
        due = time.monotonic()
        try:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due = max(due, time.monotonic() - self._every) + self._every
                with contextlib.suppress(llmpool.TransportError):
                    self._call()
        except Exception as error:
            self.errors.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def stop(self):
        self._stop.set()

    def __exit__(self, *_):
        self.stop()
        for thread in self._threads:
            thread.join(30)
        assert not self.errors, self.errors
