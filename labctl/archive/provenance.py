"""Which code made a run: versions, commit, interpreter and machine, without importing any of the packages."""

from __future__ import annotations

import getpass
import hashlib
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "scipy", "h5py", "torch", "opencv-python-headless", "pydantic", "safetensors")
_CHECKOUT = Path(__file__).parents[2]


def code_provenance() -> dict[str, Any]:
    """``code.json``: what is needed to run the same code again; ``git`` is None outside a checkout."""
    return {
        "schema": "labctl.code/1",
        "labctl": _version("labctl"),
        "git": _git_state(),
        "python": sys.version.split()[0],
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "host": platform.node(),
        "user": _user(),
        "argv": sys.argv,
        "sources": source_hashes(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def source_hashes() -> dict[str, str]:
    """``calibration.machine.lut`` → first 16 hexadecimal digits of the SHA-256 of its source, for each that fits."""
    return {
        ".".join(path.relative_to(_CHECKOUT).with_suffix("").parts): _source_hash(path)
        for path in sorted((_CHECKOUT / "calibration").rglob("*.py"))
    }


def _source_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    if not (_CHECKOUT / ".git").exists():
        return None
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no") or ""
    return {"commit": commit.strip(), "dirty": bool(changed.strip()), "changed": sorted(changed.split()[1::2])}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_CHECKOUT), *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no name for this user id, as in some containers
        return None
