"""The other end of a serial line, for tests: socat's pair of pseudo-terminals, and an instrument in a thread."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from pathlib import Path

from processes import wait_for


class SocatLine:
    """A serial cable: ``port`` for the program, an instrument at its other end, `pull` to unplug it.

    Parameters
    ----------
    folder
        For the names of its two ends.
    socat
        Path of the program.
    behave
        Called with each line that arrives, and with a function that sends bytes back.
    end
        What ends a line that arrives.
    """

    def __init__(self, folder: Path, socat: str, behave, end: bytes = b"\r\n"):
        import tty

        self.port, far = str(folder / "port"), folder / "far"
        ends = [f"pty,raw,echo=0,link={path}" for path in (self.port, far)]
        self._socat = subprocess.Popen([socat, *ends])
        wait_for(lambda: Path(self.port).exists() and far.exists())
        self._far = os.open(far, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._far)
        self._behave, self._end, self._running = behave, end, True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.pull()

    def pull(self):
        """Unplug the cable; harmless when it is."""
        if self._socat.poll() is None:
            self._socat.kill()
            self._socat.wait()
        if self._running:
            self._running = False
            self._thread.join()
            os.close(self._far)

    def say(self, words: bytes):
        """The instrument says something by itself."""
        with contextlib.suppress(OSError):
            os.write(self._far, words)

    def _serve(self):
        held = b""
        with contextlib.suppress(OSError):
            while self._running:
                if not select.select([self._far], [], [], 0.02)[0]:
                    continue
                data = os.read(self._far, 4096)
                if not data:
                    return
                *lines, held = (held + data).split(self._end)
                for line in lines:
                    self._behave(line.decode(), self.say)
