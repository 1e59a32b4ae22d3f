"""The units of a bench on this computer: written, removed, and what systemd says of them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.archive.atomic import atomic_write_text, storage
from labctl.errors import UsageError
from labctl.night.service import NOTIFY_UNIT, config_home
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
_ASKED = ("Result", "ExecMainCode", "ExecMainStatus", "ExecMainStartTimestamp", "ActiveState")


def unit_folder() -> Path:
    """Where systemd looks for the units of this user."""
    return config_home() / "systemd" / "user"


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


@dataclass(frozen=True)
class UnitState:
    """What is known of a bench's night: ``UnitState("labctl-night-bench-a", True, True, "success", 0, "…")``.

    Attributes
    ----------
    installed
        Its timer's file is there.
    enabled
        The timer is enabled; None where systemd does not answer.
    result, exit_code
        Of the last night, as systemd has them; empty and None where it does not answer, or there was none.
    next_start
        Of the timer, in systemd's words.
    """

    unit: str
    installed: bool
    enabled: bool | None
    result: str
    exit_code: int | None
    next_start: str


def unit_state(unit: str) -> UnitState:
    """Ask systemd, within a limit of time."""
    installed = (unit_folder() / f"{unit}.timer").is_file()
    answer = ask("is-enabled", f"{unit}.timer")
    word = answer.strip() if answer is not None else ""
    last = shown(f"{unit}.service")
    began = bool(last.get("ExecMainStartTimestamp"))
    timer = _properties(ask("show", f"{unit}.timer", "--property=NextElapseUSecRealtime"))
    return UnitState(
        unit,
        installed,
        word == "enabled" if word else None,
        last.get("Result", "") if began else "",
        int(last["ExecMainStatus"]) if began and last.get("ExecMainStatus", "").isdigit() else None,
        timer.get("NextElapseUSecRealtime", ""),
    )


def shown(unit: str) -> dict[str, str]:
    """How a unit ended, as systemd has it; empty where it does not answer."""
    return _properties(ask("show", unit, *(f"--property={name}" for name in _ASKED)))


def unsaid(seen: Mapping[str, str]) -> str | None:
    """What the end of a night cannot have said, in words; None where it has said how it ended.

    Parameters
    ----------
    seen
        How the unit ended, by `shown`.
    """
    result, code = seen.get("Result", ""), seen.get("ExecMainStatus", "")
    if result == "exit-code" and code.isdigit() and int(code) in _SAID:
        return None
    return (
        _RESULTS.get(result) or f"the night did not end as it should ({result or 'unknown'}, exit code {code or '?'})"
    )


def _properties(answer: str | None) -> dict[str, str]:
    lines = (line.partition("=") for line in (answer or "").splitlines())
    return {name: value for name, _, value in lines}


def ask(*words: str) -> str | None:
    """What ``systemctl --user`` prints; None where there is none, or it does not answer in time."""
    program = shutil.which("systemctl")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--user", *words], capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout


def command(words: Iterable[str]) -> str:
    """Run one of the commands that an installation needs; what it said where it failed, and else nothing."""
    try:
        done = subprocess.run(list(words), capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}")


def lingers(user: str, root: Path = Path("/")) -> bool:
    """Whether this user's services run while nobody is logged in."""
    return (root / "var/lib/systemd/linger" / user).exists()


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
