"""Other simulators of analog products, in a virtual environment of their own that sees everything installed here."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

RIVALS = "aihwkit", "aihwkit-lightning", "analogvnn"
LIMIT_S = 1200.0


def interpreter_with_rivals() -> Path:
    """Python of an environment that has the rivals; made when it is first asked for, and kept in the user's cache.

    Torch stays the one that is installed here, so that all are measured on the same. A rival without a package for this
    Python is left out, and said so.

    Raises
    ------
    SystemExit
        When not one of them can be installed, with pip's reason.
    """
    home = _home()
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"making {home}", file=sys.stderr)
        venv.create(home, with_pip=True, symlinks=os.name != "nt")
        own = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
        Path(own, "_measured.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    (home / "constraints.txt").write_text(f"torch=={version('torch')}\n")
    missing = {name: why for name in RIVALS if (why := _install(python, home, name))}
    for name, why in missing.items():
        print(f"{name} is left out: {why}", file=sys.stderr)
    if len(missing) == len(RIVALS):
        raise SystemExit(
            "The other simulators could not be installed: is there a network? Without --rivals they are left out."
        )
    return python


def _home() -> Path:
    """One environment for each that the benchmark is run from."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    digest = hashlib.sha256(f"{sys.prefix} {sys.version} {version('torch')}".encode()).hexdigest()[:8]
    return Path(cache, "labctl", f"rivals-{digest}")


def _install(python: Path, home: Path, name: str) -> str:
    """Install one, from a built package only; empty, or why not."""
    there = subprocess.run([python, "-m", "pip", "show", "-q", name], capture_output=True, check=False)
    if there.returncode == 0:
        return ""
    print(f"installing {name}", file=sys.stderr)
    command = [python, "-m", "pip", "install", "-q", "--only-binary=:all:", "--retries=1", "--timeout=10"]
    try:
        done = subprocess.run(
            [*command, "--constraint", home / "constraints.txt", name],
            capture_output=True, text=True, check=False, timeout=LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"pip did not end within {LIMIT_S:.0f} s"
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "" if done.returncode == 0 else (errors or ["pip failed"])[-1].removeprefix("ERROR: ")
