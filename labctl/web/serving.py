"""Where the page is served, to whom, and what is asked of whoever comes from another computer."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from groundwork.opening.regular import read_text
from labctl.archive.atomic import storage
from labctl.errors import NotServed

PORT = 8642
TOKEN_MIN = 20
"""Characters that a token has at least."""
TOKEN_MAX = 512
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
EVERYWHERE = ("0.0.0.0", "::")
"""Addresses that stand for all of this computer, and that no browser asks for."""
_MAKE_TOKEN = "python -c 'import secrets; print(secrets.token_urlsafe())' > token   ·   chmod 600 token"


@dataclass(frozen=True)
class Serving:
    """How the page is served.

    Attributes
    ----------
    runs
        The archive: ``runs/``.
    host, port
        The address that is listened on; port 0 takes a free one.
    names
        Names by which browsers reach this computer, besides those of the computer itself.
    token
        What a visitor has to know; empty where nothing is asked.
    certificate, key
        PEM files for TLS; None without.
    """

    runs: Path
    host: str = "127.0.0.1"
    port: int = PORT
    names: tuple[str, ...] = ()
    token: str = ""
    certificate: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        """``"http"`` or ``"https"``"""
        return "https" if self.certificate else "http"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this computer can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def hosts(self) -> frozenset[str]:
        """Every ``Host`` that a browser may ask for: another one is a page of somebody else that points here."""
        names = {*LOOPBACK, *self.names}
        if not self.is_loopback:
            names.add(socket.gethostname())
        if self.host not in EVERYWHERE:
            names.add(_bracketed(self.host))
        usual = {"http": 80, "https": 443}[self.scheme]
        found = {f"{name}:{self.port}".lower() for name in names}
        return frozenset(found | ({name.lower() for name in names} if self.port == usual else set()))

    @property
    def url(self) -> str:
        """Where a browser of this computer, or of another one if any can, finds the page."""
        host = self.names[0] if self.names else self.host
        if host in EVERYWHERE:
            host = socket.gethostname()
        return f"{self.scheme}://{_bracketed(host)}:{self.port}/"

    def require_allowed(self) -> None:
        """Refuse to show the page to other computers without a token and TLS.

        Raises
        ------
        NotServed
            When one of them is missing, or a token is too short to be one.
        """
        if (self.certificate is None) != (self.key is None):
            raise NotServed(
                "TLS needs a certificate and its key",
                action="opening the page",
                expected="--tls-cert FILE and --tls-key FILE",
                seen="only one of them",
                hint="name both   ·   or neither, and stay on this computer: labctl serve",
            )
        if self.token and not TOKEN_MIN <= len(self.token) <= TOKEN_MAX:
            raise NotServed(
                "the token is too short to keep anybody out"
                if len(self.token) < TOKEN_MIN
                else "the token is too long",
                action="opening the page",
                expected=f"{TOKEN_MIN} to {TOKEN_MAX} characters",
                seen=f"{len(self.token)} characters",
                hint=_MAKE_TOKEN,
            )
        if self.is_loopback or (self.token and self.certificate):
            return
        missing = [*([] if self.token else ["a token"]), *([] if self.certificate else ["TLS"])]
        raise NotServed(
            f"the page would be open to other computers without {' and without '.join(missing)}",
            device=f"{self.host}:{self.port}",
            action="opening the page",
            expected="--token-file FILE, --tls-cert FILE and --tls-key FILE, or an address of this computer alone",
            seen=self.host,
            safe="nothing was opened",
            hint="labctl serve   ·   from afar without any of that: ssh -L 8642:localhost:8642 THIS-COMPUTER",
        )


def require_archive(runs: Path) -> None:
    """Refuse to serve what is no folder; one that is not there yet is an empty archive.

    Raises
    ------
    NotServed
        When there is something else at the path.
    """
    if runs.exists() and not runs.is_dir():
        raise NotServed(
            "not a folder of runs",
            device=str(runs),
            action="opening the page",
            expected="a folder, or nothing yet",
            seen="a file",
            safe="nothing was opened",
            hint="labctl serve --runs runs",
        )


def read_token(path: Path | None) -> str:
    """The token that a file holds; empty without a file.

    Raises
    ------
    NotServed
        When the file holds no token.
    StorageError
        When it cannot be read.
    """
    if path is None:
        return ""
    with storage(path, "reading the token"):
        token = read_text(path, 4096).strip()
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise NotServed(
            "the file holds no token",
            device=str(path),
            action="reading the token",
            expected=f"one line of at least {TOKEN_MIN} letters and digits",
            seen="nothing" if not token else "other characters",
            hint=_MAKE_TOKEN,
        )
    return token


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens already, so that nobody who was told the address finds it closed.

    Raises
    ------
    NotServed
        When the port is taken, or the address is none of this computer.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(128)
        except OSError:
            opened.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        raise NotServed(
            "the address cannot be listened on",
            device=f"{host}:{port}",
            action="opening the page",
            expected="an address of this computer, and a port that nobody uses",
            seen=str(error),
            safe="nothing was opened",
            hint="on a free one: labctl serve --port 0",
        ) from error
    opened.set_inheritable(True)
    return opened


def host_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of this computer as they stand in an address.

    Raises
    ------
    NotServed
        When one of them is no name.
    """
    for name in names:
        if not name.replace("-", "").replace(".", "").isalnum() or not name.isascii():
            raise NotServed(
                "not the name of a computer",
                device="--name",
                action="opening the page",
                expected="bench-pc.lab.example",
                seen=name,
                hint="only the name: no https:// before it and no port behind it",
            )
    return tuple(names)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
