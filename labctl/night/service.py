"""A night that starts by itself: units of systemd, a line of cron, a task of Windows, as text.

Nothing here starts or writes anything: see `labctl.night.installed`.
"""

from __future__ import annotations

import configparser
import datetime as dt
import getpass
import glob
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as Xml

from labctl.durations import seconds_of
from labctl.errors import UsageError
from labctl.osal import state_directory
from labctl.station.loading import LoadedStation
from labctl.station.secrets import secrets_folder, secrets_path
from labctl.units import night_unit

NOTIFY_UNIT = "labctl-notify@.service"
_STOP_S = 90
"""From a stop until everything is killed: the block, the safe state (20 s) and the seal."""
_WATCH_GRACE_S = 120
"""So much longer than the suite's own watch for a stall waits that of systemd: it is for a supervisor that hangs."""
_TOLD_S = 180
"""For a wait for the bench, one for another ending, and the ending itself: as much as they may take, and some more."""
_LATE_S = 900
"""After the budget, for the report and what follows a night [s]."""
_KEPT_VARIABLES = (
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "NUMBA_CACHE_DIR",
    "LD_LIBRARY_PATH",
    "GENICAM_GENTL64_PATH",
)
"""What a service has to share with the terminal in which it was installed: secrets, locks, caches, camera libraries."""
_SECTION = "X-Labctl"
"""Of the service's unit: what is in a section of such a name is not for systemd."""
_TASK = "http://schemas.microsoft.com/windows/2004/02/mit/task"


@dataclass(frozen=True)
class NightJob:
    """One bench's night: ``NightJob("bench-a", Path("/lab/bench-a.toml"), Path("/lab/runs"), dt.time(2), "3h", 1e4)``.

    Attributes
    ----------
    bench
        Its name, which is also that of the units.
    station, runs
        Station file and archive; absolute.
    at
        When it begins, UTC.
    budget
        As ``labctl nightly run --budget`` takes it.
    budget_s
        The same in seconds.
    stall_s
        After so long a silence the suite itself ends a worker [s].
    python
        The interpreter; absolute.
    variables
        Of the environment, and their values.
    """

    bench: str
    station: Path
    runs: Path
    at: dt.time
    budget: str
    budget_s: float
    stall_s: float
    python: Path = field(default_factory=lambda: Path(sys.executable))
    variables: Mapping[str, str] = field(
        default_factory=lambda: {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    )

    def __post_init__(self) -> None:
        for path in (self.station, self.runs, self.python):
            _require_plain(path)

    @property
    def unit(self) -> str:
        """Name of the units without what they are."""
        return night_unit(self.bench)

    @property
    def secrets(self) -> Path:
        """The file of ``NAME=value`` lines that a night reads at its start; labctl never writes it."""
        return secrets_path(self.bench)

    @property
    def command(self) -> list[str]:
        """What is started."""
        words = ["nightly", "run", "--bench", str(self.station), "--runs", str(self.runs), "--budget", self.budget]
        return [*self._labctl, *words]

    @property
    def safe_command(self) -> list[str]:
        """What the system runs when the supervisor is gone: it ends the guardian, too."""
        return [*self._labctl, "bench", "safe", self.bench, "--left-open"]

    @property
    def _labctl(self) -> list[str]:
        return [str(self.python), "-P", "-m", "labctl"]

    @property
    def limit_s(self) -> int:
        """After which the system itself ends a night [s]."""
        return math.ceil(self.budget_s + self.stall_s + _LATE_S)

    def systemd(self) -> dict[str, str]:
        """File name → text of the user units."""
        return {
            f"{self.unit}.service": self._service(),
            f"{self.unit}.timer": self._timer(),
            NOTIFY_UNIT: self._notify(),
        }

    def _service(self) -> str:
        lines = [
            "[Unit]",
            f"Description=labctl: night of the bench {self.bench}",
            f"OnFailure={NOTIFY_UNIT.replace('@', f'@{self.bench}')}",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            f"ExecStart={_exec(self.command)}",
            f"ExecStopPost=-{_exec(self.safe_command)}",
            f"WorkingDirectory={_literal(self.station.parent)}",
            *self._environment(),
            _environment_file(self.bench),
            f"WatchdogSec={math.ceil(self.stall_s) + _WATCH_GRACE_S}",
            f"TimeoutStopSec={_STOP_S}",
            "KillMode=mixed",
            f"RuntimeMaxSec={self.limit_s}",
            "OOMPolicy=continue",
            "Restart=no",
            "SuccessExitStatus=11 30",
            "",
            f"[{_SECTION}]",
            f"Station={self.station}",
            f"Runs={self.runs}",
        ]
        return "\n".join(lines) + "\n"

    def _timer(self) -> str:
        return (
            f"[Unit]\nDescription=labctl: every night at {self.at:%H:%M} UTC for the bench {self.bench}\n\n"
            f"[Timer]\nOnCalendar=*-*-* {self.at:%H:%M:%S} UTC\nPersistent=true\nRandomizedDelaySec=5m\n"
            f"Unit={self.unit}.service\n\n[Install]\nWantedBy=timers.target\n"
        )

    def _notify(self) -> str:
        """For all benches, ``%i``: what the end of a night could not say itself, since there was none."""
        lines = [
            "[Unit]",
            "Description=labctl: tells that the night of %i failed",
            "",
            "[Service]",
            "Type=oneshot",
            f"ExecStart={_exec([*self._labctl, 'service', 'failed'])} {night_unit('%i')}.service",
            *self._environment(),
            _environment_file("%i"),
            f"TimeoutStartSec={_TOLD_S}",
        ]
        return "\n".join(lines) + "\n"

    def _environment(self) -> list[str]:
        return [f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(self.variables.items())]

    def cron(self) -> str:
        """Lines for ``crontab -e``: cron goes by the computer's own time, also in summer."""
        local = dt.datetime.combine(dt.datetime.now(dt.UTC).date(), self.at, dt.UTC).astimezone()
        folder = state_directory() / "nights"
        shell = [f"mkdir -p {shlex.quote(str(folder))}", f"cd {shlex.quote(str(self.station.parent))}"]
        settings = [f"{name}={shlex.quote(value)}" for name, value in sorted(self.variables.items())]
        started = " ".join([*settings, shlex.join([*self.command, "--json"])])
        output = f">> {shlex.quote(str(folder / f'{self.bench}.jsonl'))}"
        words = " && ".join([*shell, f"{started} {output}"]).replace("%", "\\%")
        about = f"# {local:%H:%M} is this computer's clock, for {self.at:%H:%M} UTC today; secrets: {self.secrets}"
        return f"{about}\nMAILTO={getpass.getuser()}\n{local.minute} {local.hour} * * * {words}\n"

    def windows(self) -> str:
        """A task for Task Scheduler, switched off: a night is refused where no supervisor can run."""
        Xml.register_namespace("", _TASK)
        task = Xml.Element(f"{{{_TASK}}}Task", {"version": "1.2"})

        def put(parent: Xml.Element, name: str, text: str = "") -> Xml.Element:
            element = Xml.SubElement(parent, f"{{{_TASK}}}{name}")
            element.text = text or None
            return element

        about = put(task, "RegistrationInfo")
        put(about, "Description", f"labctl: night of the bench {self.bench}. {NO_NIGHTS_ON_WINDOWS}")
        trigger = put(put(task, "Triggers"), "CalendarTrigger")
        put(trigger, "StartBoundary", f"2026-01-01T{self.at:%H:%M:%S}Z")
        put(put(trigger, "ScheduleByDay"), "DaysInterval", "1")
        settings = put(task, "Settings")
        for name, text in (
            ("MultipleInstancesPolicy", "IgnoreNew"),
            ("DisallowStartIfOnBatteries", "false"),
            ("StopIfGoingOnBatteries", "false"),
            ("StartWhenAvailable", "true"),
            ("Enabled", "false"),
            ("ExecutionTimeLimit", f"PT{self.limit_s}S"),
        ):
            put(settings, name, text)
        action = put(put(task, "Actions"), "Exec")
        program, *arguments = self.command
        put(action, "Command", program)
        put(action, "Arguments", subprocess.list2cmdline(arguments))
        put(action, "WorkingDirectory", str(self.station.parent))
        Xml.indent(task)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(task, encoding="unicode") + "\n"


NO_NIGHTS_ON_WINDOWS = (
    "labctl refuses unattended runs on Windows, where no supervisor can end a run that hangs and make the bench safe: "
    "the task is written switched off."
)


def night_job(loaded: LoadedStation, runs: Path, at: str, budget: str | None) -> NightJob:
    """The night of a station's bench.

    Raises
    ------
    UsageError
        For a time or a budget that is none, or a path that a service cannot name.
    """
    said = f"{loaded.station.nightly.budget_h:g}h" if budget is None else budget
    return NightJob(
        loaded.bench,
        loaded.path.absolute(),
        runs.absolute(),
        _time_of_day(at),
        said,
        _seconds(said),
        loaded.station.acquisition.stall_s,
    )


def job_of(unit: str) -> tuple[Path, Path]:
    """Station file and archive of a bench's night, from the text of its service."""
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(unit)
    return Path(parser[_SECTION]["Station"]), Path(parser[_SECTION]["Runs"])


def _time_of_day(text: str) -> dt.time:
    try:
        return dt.datetime.strptime(text, "%H:%M").time()
    except ValueError as error:
        raise UsageError("--at is no time of day", expected="HH:MM, UTC", seen=text, hint="--at 02:00") from error


def _seconds(text: str) -> float:
    """A budget that a file keeps for years says its unit; a bare number may have been meant in hours."""
    seconds = 0.0 if text[-1:].isdigit() else seconds_of(text, "--budget")
    if not seconds > 0:
        raise UsageError("--budget is no duration", expected="90s, 20m, 3h or 1h30m", seen=text, hint="--budget 3h")
    return seconds


def _require_plain(path: Path) -> None:
    """Refuse what no unit, line of cron or command line can hold: a line break, or a backslash before it."""
    text = str(path)
    if not text.isprintable() or text.endswith("\\"):
        raise UsageError("a service cannot name this path", device=repr(text), hint="rename the folder or the file")


def _quoted(text: str) -> str:
    """A value between quotes as systemd reads it: its escapes and its specifiers mean themselves."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _exec(words: list[str]) -> str:
    """A command line for ``ExecStart``: in its arguments, but not in the program, a dollar begins a variable."""
    program, *arguments = words
    return " ".join([_quoted(program), *(_quoted(word.replace("$", "$$")) for word in arguments)])


def _environment_file(bench: str) -> str:
    """The key that reads the secrets of a bench, whose name has no character that means something there."""
    return f"EnvironmentFile=-{_literal(Path(_without_glob(str(secrets_folder()))))}/night-{bench}.env"


def _literal(path: Path) -> str:
    """A path for a key that takes the rest of the line and knows no quotes."""
    return str(path).replace("%", "%%")


def _without_glob(text: str) -> str:
    """``EnvironmentFile`` expands patterns, braces among them."""
    return glob.escape(text).replace("{", "[{]")
