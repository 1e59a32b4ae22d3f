"""Which code made a run: versions, commit, interpreter and machine, without importing any of the packages."""

from __future__ import annotations

import getpass
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "scipy", "h5py", "torch", "opencv-python-headless", "pydantic", "safetensors")
_CHECKOUT = Path(__file__).parents[2]


def code_provenance(sources: Mapping[str, str]) -> dict[str, Any]:
    """``code.json``: what is needed to run the same code again; ``git`` is None outside a checkout.

    Parameters
    ----------
    sources
        Module → hash of its source, for the modules that results depend on.
    """
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
        "sources": dict(sources),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


@cache
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
