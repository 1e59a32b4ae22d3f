"""``labctl service``: nights that start by themselves."""

from __future__ import annotations

import configparser
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labctl.cli.handler import RUNS, RunsOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.night.owed import NightBench
    from labctl.night.service import NightJob

app = typer.Typer(help="Nights that start by themselves: systemd, cron, Windows.", no_args_is_help=True)

BENCH_S = 30.0
"""How long one waits for a bench whose night was killed: what is left of it still makes the bench safe."""
Way = Literal["systemd", "cron", "windows"]
AtOption = Annotated[str, typer.Option("--at", metavar="HH:MM", help="When a night begins, UTC.")]
BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", metavar="DURATION", help="3h, 1h30m; nightly.budget_h of the station if left out."),
]
WayOption = Annotated[
    Way | None, typer.Option("--as", help="What starts the night; if left out, systemd where it answers, else cron.")
]


@command(app)
def install(
    lab: Lab,
    at: AtOption = "02:00",
    budget: BudgetOption = None,
    way: WayOption = None,
    enable: Annotated[bool, typer.Option("--enable", help="Also switch the timer on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="With --as windows: where the task goes.")
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    """Install a bench's night for systemd, cron or Windows.

    Units of systemd for this user, or what to give to cron or to Windows.

    One night per bench. Opens no device, needs no root, and replaces no file that it did not write.
    """
    from labctl.night import installed, service
    from labctl.night.owed import NightBench, remember
    from labctl.station.secrets import make_folder

    chosen = way or _usual_way(enable)
    if way is None and chosen == "cron":
        lab.console.say("no systemd of this user answers here: lines for cron\n")
    _require_fitting(chosen, enable=enable, output=output)
    loaded = lab.station()
    job = service.night_job(loaded, runs, at, budget)
    if chosen == "cron":
        about = {"way": chosen, "text": job.cron(), "secrets": str(job.secrets)}
        lab.console.result(about, f"{job.cron()}\nthese lines belong into: crontab -e")
        return
    if chosen == "windows":
        _install_windows(lab, job, output, dry_run)
        return
    if dry_run:
        _print(lab, job.systemd())
        return
    paths = installed.write_units(job.systemd())
    make_folder(job.secrets.parent)
    remember(NightBench.of(loaded))  # who is to hear of a first night that cannot read its station
    lab.console.say("\n".join(f"written: {path}" for path in paths))
    steps = _steps(job)
    if enable:
        _enable(lab, steps)
    document = {
        "way": chosen, "written": list(map(str, paths)), "commands": [" ".join(words) for words in steps],
        "secrets": str(job.secrets),
    }  # fmt: skip
    words = [] if enable else ["next:", *(f"  {' '.join(words)}" for words in steps)]
    words += [f"secrets (NAME=value lines, chmod 600): {job.secrets}"]
    lab.console.result(document, "\n".join(words))


@command(app)
def show(lab: Lab, at: AtOption = "02:00", budget: BudgetOption = None, runs: RunsOption = RUNS) -> None:
    """Print the bench's units as they are installed, or would be."""
    from labctl import units
    from labctl.night import service

    job = service.night_job(lab.station(), runs, at, budget)
    written = job.systemd()
    folder = units.unit_folder()
    there = {name: (folder / name).read_text(encoding="utf-8") for name in written if (folder / name).is_file()}
    if not there:
        lab.console.say("not installed; as they would be written:\n")
    _print(lab, there or written)


@command(app)
def status(lab: Lab) -> None:
    """Say whether the night is installed, and when it comes.

    Whether it is switched on and how the last one ended, too.
    """
    from labctl import units

    loaded = lab.station()
    bench = loaded.bench
    state = units.unit_state(units.night_unit(bench))
    lingering = units.lingers(getpass.getuser())
    if not state.installed:
        words = f"{bench}: no night is installed   ·   labctl service install"
    elif not state.answers:
        words = (
            f"{bench}: a timer is installed, and no systemd of this user answers: it starts no night"
            f"   ·   labctl service install --as cron{_last_of_all(bench)}"
        )
    else:
        on = {True: "on", False: "off", None: "unknown"}[state.enabled]
        last = f"{state.result}, exit code {state.exit_code}" if state.result else "none started by the timer yet"
        here = "also while you are logged out" if lingering else "only while you are logged in: loginctl enable-linger"
        words = f"{bench}: timer {on}   ·   next {state.next_start or 'unknown'}   ·   last night: {last}   ·   {here}"
        words += "" if state.result else _last_of_all(bench)
    lab.console.result({"bench": bench, "state": state, "lingering": lingering}, words)


def _last_of_all(bench: str) -> str:
    """The last night however it was started, in the archive of the installed unit; empty where there is none."""
    from labctl import units
    from labctl.night.history import night_status
    from labctl.night.service import job_of

    try:
        _, runs = job_of((units.unit_folder() / f"{units.night_unit(bench)}.service").read_text(encoding="utf-8"))
    except (OSError, KeyError, ValueError, configparser.Error):
        return ""
    nights = night_status(runs, bench, 1).nights
    return f"\nlast night of all: {nights[0].run_id}, {nights[0].verdict}" if nights else ""


@command(app)
def uninstall(lab: Lab) -> None:
    """Switch the bench's night off and remove its units. Runs, settings and secrets stay."""
    from labctl import units
    from labctl.night import installed

    unit = units.night_unit(lab.station().bench)
    if not (units.unit_folder() / f"{unit}.timer").exists():
        lab.console.result({"removed": []}, "no night is installed: nothing to remove")
        return
    units.ask("disable", "--now", f"{unit}.timer")
    paths = installed.remove_units(unit)
    units.ask("daemon-reload")
    lab.console.result({"removed": list(map(str, paths))}, "\n".join(f"removed: {path}" for path in paths))


@command(app, "failed", hidden=True)
def failed(
    lab: Lab, unit: Annotated[str, typer.Argument(metavar="UNIT", help="The unit of systemd that failed.")]
) -> None:
    """Tell what the end of a night could not tell itself: that it never began, or was killed."""
    from labctl import units
    from labctl.night import installed, owed
    from labctl.night.service import job_of

    seen = units.shown(unit)
    bench = owed.known(unit.removeprefix(units.night_unit("")).removesuffix(".service"))
    words = installed.unsaid(seen, bench.said if bench else "")
    document = {"unit": unit, "seen": seen, "said": words is None}
    if words is None:
        lab.console.result(document, f"{unit}: the night itself has said how it ended")
        return
    _, runs = job_of((units.unit_folder() / unit).read_text(encoding="utf-8"))
    if bench is not None:
        _tell(lab, bench, runs, seen.get("InvocationID", ""), words, f"journalctl --user -u {unit}")
    lab.console.result(
        document, f"{unit}: {words}   ·   journalctl --user -u {unit}   ·   labctl run list --runs {runs}"
    )


def _tell(lab: Lab, bench: NightBench, runs: Path, start: str, words: str, look: str) -> None:
    """Do the ending that the night would have done."""
    from labctl.bench.lock import hold_bench
    from labctl.errors import BenchBusy
    from labctl.night import owed
    from labctl.night.ending import make_up, never_began

    try:
        with hold_bench(bench.name, "labctl service failed", wait_s=BENCH_S):
            told = make_up(bench.name, lab.console.warn)
    except BenchBusy:  # whoever has it makes up for what the night owes
        told = not all(owed.is_claimed(night) for night in owed.owed_by(bench.name))
    if not told:
        never_began(bench, runs, start, words, look, lab.console.warn)


def _usual_way(enable: bool) -> Way:
    """What can start a night here; a timer that is to be switched on is systemd's."""
    from labctl import units

    if sys.platform == "win32":
        return "windows"
    return "systemd" if enable or units.answers() else "cron"


def _require_fitting(way: Way, *, enable: bool, output: Path | None) -> None:
    from labctl import units
    from labctl.errors import NotSwitchedOn, UsageError

    if enable and way != "systemd":
        raise UsageError("--enable is for systemd", seen=f"--as {way}", hint="leave --enable out")
    if enable and not units.answers():
        raise NotSwitchedOn(
            "systemd of this user does not answer",
            action="switching the timer on",
            expected="a session in which systemctl --user show-environment answers",
            safe="nothing was written",
            hint="labctl service install --as cron",
        )
    if output is not None and way != "windows":
        raise UsageError("--output is for a task of Windows", seen=f"--as {way}", hint="leave --output out")


def _install_windows(lab: Lab, job: NightJob, output: Path | None, dry_run: bool) -> None:
    from labctl.archive.atomic import atomic_write_text
    from labctl.archive.outputs import EDITED, require_output
    from labctl.night.service import NO_NIGHTS_ON_WINDOWS

    text = job.windows()
    if dry_run:
        _print(lab, {"task.xml": text})
        return
    path = output or Path(f"{job.unit}.xml")
    require_output(path, EDITED)
    atomic_write_text(path, text)
    lab.console.warn(NO_NIGHTS_ON_WINDOWS)
    line = f"schtasks /Create /TN {job.unit} /XML {path}"
    document = {"way": "windows", "written": [str(path)], "commands": [line]}
    lab.console.result(document, f"written: {path}\nnext:\n  {line}")


def _print(lab: Lab, files: dict[str, str]) -> None:
    lab.console.result(files, "\n".join(f"# {name}\n{text}" for name, text in files.items()))


def _steps(job: NightJob) -> list[list[str]]:
    return [
        ["systemctl", "--user", "daemon-reload"],
        ["systemctl", "--user", "enable", "--now", f"{job.unit}.timer"],
        ["loginctl", "enable-linger"],
    ]


def _enable(lab: Lab, steps: list[list[str]]) -> None:
    """Run the commands in order; where one fails, those that are still to be typed are its hint."""
    from labctl.errors import NotSwitchedOn
    from labctl.night.installed import command as run

    for done, words in enumerate(steps):
        if said := run(words):
            raise NotSwitchedOn(
                "a command of the system failed",
                device=" ".join(words),
                action="switching the timer on",
                seen=said,
                safe="the units are written",
                hint=f"mend that, then: {' && '.join(' '.join(rest) for rest in steps[done:])}"
                "   ·   without systemd: labctl service install --as cron",
            )
        lab.console.say(f"done: {' '.join(words)}")
