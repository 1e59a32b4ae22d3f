"""What systemd knows of this user's units: where they lie, whether they are switched on, and how they ended."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from labctl.osal import home_directory, state_directory

_LIMIT_S = 30.0
_ASKED = ("Result", "ExecMainCode", "ExecMainStatus", "ExecMainStartTimestamp", "ActiveState", "InvocationID")


def night_unit(bench: str) -> str:
    """Name of the units of a bench's night, without what they are."""
    return f"labctl-night-{bench}"


def config_home() -> Path:
    """Where this user's settings are."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or (home_directory() or state_directory()) / ".config")


def unit_folder() -> Path:
    """Where systemd looks for the units of this user."""
    return config_home() / "systemd" / "user"


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
    answers
        systemd of this user answers: without it no timer starts anything.
    """

    unit: str
    installed: bool
    enabled: bool | None
    result: str
    exit_code: int | None
    next_start: str
    answers: bool


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
        answers(),
    )


def shown(unit: str) -> dict[str, str]:
    """How a unit ended, as systemd has it; empty where it does not answer."""
    return _properties(ask("show", unit, *(f"--property={name}" for name in _ASKED)))


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


def answers() -> bool:
    """Whether systemd of this user answers: that its program is installed says nothing of that."""
    return bool(ask("show-environment"))


def lingers(user: str, root: Path = Path("/")) -> bool:
    """Whether this user's services run while nobody is logged in."""
    return (root / "var/lib/systemd/linger" / user).exists()
