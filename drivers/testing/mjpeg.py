"""A network camera that needs no hardware: JPEG pictures over HTTP, one after another, on the loopback address."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

Scene = Callable[[int], NDArray[np.uint8]]


def _counting(number: int) -> NDArray[np.uint8]:
    return np.full((120, 160), number % 256, np.uint8)


class MjpegServer:
    """Serves ``http://127.0.0.1:PORT/video.mjpg``, a stream that can stall and be cut.

    Parameters
    ----------
    scene
        ``scene(number)``: the picture of that number, (H, W) or (H, W, 3) uint8. Flat pictures arrive exactly.
    rate_hz
        Pictures per second.

    Attributes
    ----------
    stalled
        While set, connections stay open and nothing is sent.
    made_at_s
        When each picture was made, `time.monotonic`, by its number.
    """

    def __init__(self, scene: Scene = _counting, rate_hz: float = 40.0) -> None:
        self.stalled = threading.Event()
        self.made_at_s: list[float] = []
        self._scene, self._period_s = scene, 1 / rate_hz
        self._cut = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(OSError):
                    owner._send(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/video.mjpg"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cut()
        self._server.shutdown()
        self._server.server_close()

    def cut(self) -> None:
        """Close every connection; new ones are accepted after `mend`."""
        self._cut.set()

    def mend(self) -> None:
        """Accept connections again."""
        self._cut.clear()

    def _send(self, handler: BaseHTTPRequestHandler) -> None:
        if self._cut.is_set():
            handler.send_error(503)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        while not self._cut.wait(self._period_s):
            if self.stalled.is_set():
                continue
            number = len(self.made_at_s)
            self.made_at_s.append(time.monotonic())
            jpeg = cv2.imencode(".jpg", self._scene(number), [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            handler.wfile.write(head + jpeg + b"\r\n")
            handler.wfile.flush()
        handler.close_connection = True
