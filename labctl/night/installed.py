"""The units of a bench on this computer: written and removed, and what the end of a night could not say."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from labctl.archive.atomic import atomic_write_text, storage
from labctl.errors import UsageError
from labctl.night.service import NOTIFY_UNIT
from labctl.units import unit_folder
from labctl.verdicts import VERDICTS

MARK = "# labctl service install "
_LIMIT_S = 30.0
_SAID = {code for row in VERDICTS for code in row.exit_codes} - {1}
"""Exit codes that only a night which has begun can give, and whose end says so itself; 1 is any Python's, too."""
_RESULTS = {
    "watchdog": "nothing moved for too long, the supervisor included: killed",
    "timeout": "it ran past its limit, or did not stop in time: ended",
    "oom-kill": "out of memory: killed",
    "signal": "the supervisor was killed",
    "core-dump": "the supervisor crashed",
    "resources": "it never began: the system lacks what it needs",
    "protocol": "it never said that it had begun",
}


def write_units(units: Mapping[str, str]) -> list[Path]:
    """Write the units, all or none refused; each whole or not at all.

    Raises
    ------
    UsageError
        Where a file of that name is not one that labctl wrote, or was changed since.
    """
    folder = unit_folder()
    for name in units:
        _require_ours(folder / name)
    with storage(folder, "writing units"):
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in units.items():
        atomic_write_text(folder / name, _signed(text))
    return [folder / name for name in units]


def remove_units(unit: str) -> list[Path]:
    """Remove a bench's service and timer; with the last bench what says that one failed, too."""
    folder = unit_folder()
    names = [f"{unit}.service", f"{unit}.timer"]
    others = {path.name for path in folder.glob("labctl-night-*.service")} - set(names)
    if not others:
        names.append(NOTIFY_UNIT)
    paths = [folder / name for name in names if (folder / name).exists()]
    for path in paths:
        _require_ours(path)
    for path in paths:
        with storage(path, "removing a unit"):
            path.unlink()
    return paths


def unsaid(seen: Mapping[str, str], said: str = "") -> str | None:
    """What the end of a night cannot have said, in words; None where it has said how it ended.

    Parameters
    ----------
    seen
        How the unit ended, by `labctl.units.shown`.
    said
        systemd's name of the start whose ending was done last; its exit code tells where systemd does not name starts.
    """
    result, code = seen.get("Result", ""), seen.get("ExecMainStatus", "")
    if start := seen.get("InvocationID", ""):
        is_said = start == said
    else:
        is_said = result == "exit-code" and code.isdigit() and int(code) in _SAID
    if is_said:
        return None
    return (
        _RESULTS.get(result) or f"the night did not end as it should ({result or 'unknown'}, exit code {code or '?'})"
    )


def command(words: Iterable[str]) -> str:
    """Run one of the commands that an installation needs; what it said where it failed, and else nothing."""
    try:
        done = subprocess.run(list(words), capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}")


def _signed(text: str) -> str:
    return f"{MARK}{_digest(text)}; change it with: systemctl --user edit\n{text}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_ours(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    with storage(path, "reading a unit"):
        first, _, text = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    if path.is_symlink() or not first.startswith(f"{MARK}{_digest(text)};"):
        raise UsageError(
            "this unit is not as labctl wrote it",
            device=str(path),
            action="installing or removing a service",
            safe="nothing was changed",
            hint=f"move it away, and try again; your changes belong into: systemctl --user edit {path.name}",
        )
