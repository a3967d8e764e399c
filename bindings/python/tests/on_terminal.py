"""A command of python -m llmpool on a terminal of its own."""

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import servers


class OnTerminal:
    def __init__(self, *arguments, columns=80, rows=30, **environment):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        settings = {"TERM": "xterm-256color", "PYTHONPATH": servers.python_path()}
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NO_COLOR", "COLUMNS", "LINES")
        }
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmpool", *map(str, arguments)],
            env={**inherited, **settings, **environment},
            stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.output = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def wait_for(self, text, count=1):
        deadline = time.monotonic() + 60
        while self.output.count(text) < count:
            self._read(deadline - time.monotonic())
        return self.output

    def _read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], max(0, seconds))
        assert ready, self.output
        self.output += self._decoder.decode(os.read(self.master, 65536))

    def press(self, key):
        os.write(self.master, key)

    def status(self):
        """How it ended, all read."""
        status = self.process.wait(60)
        while select.select([self.master], [], [], 0)[0]:
            self.output += self._decoder.decode(os.read(self.master, 65536))
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)
