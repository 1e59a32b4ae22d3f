"""SCPI instruments for tests: scpipy's server, which is not ours, and one that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

from processes import wait_for


def routes(instrument):
    """A power meter that drives a lamp and reads a contact, in scpipy's words; ``instrument`` is its state."""
    from scpipy.server import Router

    router = Router()

    def answers(header, key):
        router.add_route(header, lambda context: str(instrument[key]))

    def sets(header, key, kind=str):
        def change(context, value):
            instrument[key] = kind(value)

        router.add_route(f"{header} <value>", change)

    for header, key, kind in (
        ("SENSe:CORRection:WAVelength", "wavelength", float),
        ("SENSe:POWer[:DC]:UNIT", "unit", str),
        ("SENSe:AVERage:COUNt", "averages", int),
        ("OUTPut[:STATe]", "output", str),
    ):
        answers(f"{header}?", key)
        sets(header, key, kind)
    answers("*IDN?", "identity")
    answers("MEASure[:SCALar][:POWer]?", "power")
    answers("READ?", "power")
    answers("DIGital:DATA?", "contact")
    return router


@contextlib.contextmanager
def scpipy_server(instrument) -> Iterator[str]:
    """The VISA address of a server of scpipy with these routes; every client shares its error queue."""
    from scpipy.server import Server

    server = Server("127.0.0.1", 0, shared_context=True)
    server.include_router(routes(instrument))
    loops = []

    async def listen():
        loops.append(asyncio.get_running_loop())
        await server._listen()

    thread = threading.Thread(target=lambda: asyncio.run(listen()), daemon=True)
    thread.start()
    wait_for(lambda: server._server is not None and server._server.sockets)
    try:
        yield f"TCPIP0::127.0.0.1::{server._server.sockets[0].getsockname()[1]}::SOCKET"
    finally:
        loops[0].call_soon_threadsafe(server.stop)
        thread.join(10)


class Misbehaving(socketserver.ThreadingTCPServer):
    """A server that does with each question what ``behave(line, connection)`` says: it may close, be silent, babble."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, behave):
        self.connections = []

        class Handler(socketserver.StreamRequestHandler):
            def handle(handler):
                self.connections.append(handler.connection)
                with contextlib.suppress(OSError):
                    while line := handler.rfile.readline():
                        if b"?" in line:
                            behave(line.decode().strip(), handler.connection)

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self):
        return f"TCPIP0::127.0.0.1::{self.server_address[1]}::SOCKET"

    def hang_up(self):
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __exit__(self, *exc):
        self.shutdown()
        self.server_close()
