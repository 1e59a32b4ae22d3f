"""``labctl devices test|live|show``: one instrument of the station, by its name."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from labctl.cli.handler import ForceOption, SetOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.protocols import Modulator
    from labctl.bench.bench import Bench
    from labctl.instruments.contract_suite import ContractRow
    from labctl.instruments.live import Look, Viewer
    from labctl.station.loading import LoadedStation

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As in the station file: [devices.NAME].")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``labctl devices``."""
    for name, function in (("test", contract), ("live", live), ("show", show)):
        command(app, name)(function)


def contract(
    lab: Lab,
    name: NameArgument,
    light: Annotated[bool, typer.Option("--light", help="Allow the tests that switch a light source on.")] = False,
    limit_s: Annotated[
        float, typer.Option("--limit-s", min=1, max=3600, help="Longest wait for each test [s].")
    ] = 60.0,
    period_tolerance: Annotated[
        float | None,
        typer.Option(
            "--period-tolerance",
            min=0,
            help="Of a camera that software paces: how far frames may be from their time, relative; else 0.05.",
        ),
    ] = None,
    set_: SetOption = None,
) -> int:
    """Run the contract suite on a device.

    What every driver promises is asked of the real thing. Holds the bench. A test that hangs is ended, and the
    device made safe. Exit code 10 when a promise is broken.
    """
    from labctl.engine.holding import devices_in_use, holding
    from labctl.errors import OutOfSpec
    from labctl.instruments.contract_suite import job_for, run_contract

    loaded = lab.station(set_)
    job = job_for(loaded.station, name, light=light, period_tolerance_rel=period_tolerance)
    lab.console.say(f"{name}: {job.backend}, as {job.role}")
    if job.role == "source" and light:
        lab.console.warn("warning: the light is switched on and off now")
    with holding(lab, loaded.bench, f"labctl devices test {name}"), devices_in_use(lab, loaded.station, devices={name}):
        result = run_contract(job, limit_s, lambda row: _say(lab, row))
    for remark in result.remarks:
        lab.console.say(f"note: {remark}")
    if result.count("LEFT OUT"):
        lab.console.say("left out: tests that switch the light on   ·   with them: --light")
    if not result.safe:
        lab.console.warn(f"warning: {name} could not be made safe: check it in person, the light first")
    who = " ".join(filter(None, (result.identity.get("vendor"), result.identity.get("model"))))
    counts = ", ".join(
        f"{result.count(state)} {words}"
        for state, words in (
            ("PASS", "passed"),
            ("FAIL", "failed"),
            ("NOT RUN", "not run"),
            ("SKIP", "skipped"),
            ("LEFT OUT", "left out"),
        )
        if result.count(state)
    )
    failed = bool(result.count("FAIL") + result.count("NOT RUN")) or not result.safe
    more = f"   ·   all that is known of a failure: labctl devices test {name} --json" if failed else ""
    lab.console.result({"device": name, "backend": job.backend, **vars(result)}, f"{name} ({who}): {counts}{more}")
    return OutOfSpec.exit_code if failed else 0


def _say(lab: Lab, row: ContractRow) -> None:
    lab.console.say(f"{row.state:8}  {row.test}{f': {row.why}' if row.why else ''}")


@dataclass(frozen=True)
class CameraSettings:
    """How the camera is set for a look."""

    exposure: Annotated[float | None, typer.Option("--exposure", metavar="S", help="Exposure time [s].")] = None
    roi: Annotated[
        str | None, typer.Option("--roi", metavar="X,Y,W,H", help="Region of interest, in pixels of the sensor.")
    ] = None


@dataclass(frozen=True)
class LookSettings:
    """What is done with the frames."""

    once: Annotated[bool, typer.Option("--once", help="One picture, and no more.")] = False
    window: Annotated[bool, typer.Option("--window", help="In a window instead of the terminal.")] = False
    full_range: Annotated[
        bool, typer.Option("--full-range", help="Gray from 0 to full scale, not from darkest to brightest.")
    ] = False
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE.png", help="Keep the last frame: its counts as they are.")
    ] = None
    force: ForceOption = False


@dataclass(frozen=True)
class Scene:
    """What else is switched on for it."""

    light: Annotated[bool, typer.Option("--light", help="Switch the station's light source on meanwhile.")] = False
    show: Annotated[
        list[str] | None,
        typer.Option("--show", metavar="PANEL=PATTERN", help="Show a pattern meanwhile: slm=checker=8; repeatable."),
    ] = None


def live(
    lab: Lab, name: NameArgument, camera: CameraSettings, look: LookSettings, scene: Scene, set_: SetOption = None
) -> None:
    """Look through a camera, until Ctrl-C.

    Its picture and histogram in the terminal, saturated pixels red. Without a terminal, one line for each frame.
    Holds the bench; the light stays off without --light.
    """
    from labctl.archive.atomic import atomic_write_bytes
    from labctl.archive.outputs import PICTURE, require_output
    from labctl.errors import UsageError
    from labctl.instruments.live import Viewer, parse_roi, png, set_up

    loaded, roi = lab.station(set_), parse_roi(camera.roi)
    _require_role(loaded, name, ("camera",))
    if look.save is not None and look.save.suffix.lower() != ".png":
        raise UsageError("frames are kept as PNG files", expected="--save FILE.png", seen=str(look.save))
    if look.save is not None:
        require_output(look.save, PICTURE, [loaded.path], force=look.force)
    looks: list[Look] = []

    def keep(one: Look) -> None:
        looks[:] = [one]

    with _scene(lab, loaded, name, scene, f"labctl devices live {name}") as bench:
        device = cast("Any", bench.devices[name])
        set_up(device, camera.exposure, roi)
        settings = loaded.station.acquisition
        settle_frames = max(settings.slm_settle_frames, settings.display_settle_frames) if scene.show else 0
        viewer = Viewer(device, settle_frames, full_range=look.full_range)
        try:
            _look(lab, bench, viewer, look, keep)
        except KeyboardInterrupt as stop:
            _only_ctrl_c(stop)
        if not looks:
            raise UsageError("stopped before the first frame", device=name)
        (last,) = looks
        if look.save is not None:
            atomic_write_bytes(look.save, png(last, device.bit_depth))
        line, snapshot = viewer.line(last), device.snapshot()
    saved = f"   ·   {look.save}: the last frame, counts as they are" if look.save else ""
    document = {"device": name, "sequence": last.sequence, "lost": last.lost, **vars(last.numbers)}
    document |= {"settings": snapshot, "saved": None if look.save is None else str(look.save)}
    lab.console.result(document, line + saved)


def show(
    lab: Lab,
    name: NameArgument,
    pattern: Annotated[
        list[str],
        typer.Argument(
            metavar="PATTERN",
            help="blank, level=128, checker=8, ramp, grating=16, grid=64, cross=4, text=F, or a .png or .npy file.",
        ),
    ],
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, help="End by itself after so long [s]; else at Ctrl-C.")
    ] = None,
    light: Annotated[bool, typer.Option("--light", help="Switch the station's light source on meanwhile.")] = False,
    set_: SetOption = None,
) -> None:
    """Put a pattern on a panel, until Ctrl-C.

    text=F shows what is mirrored or upside down. Afterwards the panel is blank. Holds the bench. To see it through
    the camera at the same time: labctl devices live CAMERA --show NAME=PATTERN
    """
    import time

    from labctl.bench.interlocks import require_closed

    loaded = lab.station(set_)
    _require_role(loaded, name, ("slm", "display"))
    words = " ".join(pattern)
    with _scene(lab, loaded, name, Scene(light, [f"{name}={words}"]), f"labctl devices show {name}") as bench:
        panel = cast("Modulator", bench.devices[name])
        rows, columns = panel.shape
        facts = f"{columns} × {rows} px, {panel.levels} levels"
        lab.console.say(f"{name} ({facts}) shows {words}" + ("" if seconds is not None else "   ·   Ctrl-C to end"))
        ends_s = None if seconds is None else time.monotonic() + seconds
        try:
            while ends_s is None or time.monotonic() < ends_s:
                require_closed(bench.interlocks)
                time.sleep(0.2 if ends_s is None else max(min(0.2, ends_s - time.monotonic()), 0.0))
        except KeyboardInterrupt as stop:
            _only_ctrl_c(stop)
    document = {"device": name, "pattern": words, "shape_px": [rows, columns], "levels": panel.levels}
    lab.console.result(document, f"{name} is blank again")


@contextmanager
def _scene(lab: Lab, loaded: LoadedStation, name: str, scene: Scene, who: str) -> Iterator[Bench]:
    """The bench with one device, the panels that are to show something, and the light if it is to be on."""
    from labctl.bench.bench import open_bench
    from labctl.bench.interlocks import require_closed
    from labctl.engine.holding import devices_in_use, holding
    from labctl.errors import UsageError
    from labctl.instruments.part import part_of
    from labctl.instruments.patterns import pattern

    station = loaded.station
    shown = {}
    for text in scene.show or ():
        panel, equals, words = text.partition("=")
        if not equals:
            raise UsageError("--show needs PANEL=PATTERN", seen=text, hint="for example: --show slm=checker=8")
        _require_role(loaded, panel, ("slm", "display"))
        shown[panel] = words
    lit = [*station.devices.named("source"), *station.devices.named("interlock")] if scene.light else []
    names = {name, *shown, *lit}
    with (
        holding(lab, loaded.bench, who),
        devices_in_use(lab, station, devices=names),
        open_bench(part_of(station, names)) as bench,
    ):
        for panel, words in shown.items():
            device = cast("Modulator", bench.devices[panel])
            device.show(pattern(words, device.shape, device.levels))
        if scene.light:
            require_closed(bench.interlocks)
            lab.console.warn(f"warning: the light is on: {bench.source.name}")
            bench.source.on()
        yield bench
        if scene.light:
            bench.source.off()
        for panel in shown:
            cast("Modulator", bench.devices[panel]).blank()


def _look(lab: Lab, bench: Bench, viewer: Viewer, settings: LookSettings, keep: Any) -> None:
    """Show frames where they can be shown."""
    import sys

    from rich.console import Console

    from labctl.bench.interlocks import require_closed
    from labctl.instruments.live import draws_gray, watch

    def safely(look: Look) -> None:
        keep(look)
        require_closed(bench.interlocks)

    console = Console(file=sys.stderr if lab.console.json_mode else sys.stdout, highlight=False)
    if settings.window:
        from labctl.instruments.window import watch_in_window

        watch_in_window(viewer, safely)
    elif settings.once:
        look = viewer.look()
        safely(look)
        size = console.size if console.is_terminal else (80, 40)
        if not lab.console.quiet:
            console.print(viewer.picture(look, (size[0], size[1] - 2), colours=draws_gray(console)))
    elif console.is_terminal and not console.is_dumb_terminal and not lab.console.quiet:
        watch(viewer, console, safely)
    else:
        while True:
            look = viewer.look()
            safely(look)
            lab.console.say(viewer.line(look))


def _require_role(loaded: LoadedStation, name: str, roles: tuple[str, ...]) -> None:
    """Refuse a device that the station does not have, or that is for something else."""
    from labctl.errors import UsageError
    from labctl.instruments.contract_suite import require_device

    require_device(loaded.station, name)
    role = loaded.station.devices.role(name)
    if role not in roles:
        fitting = [one for wanted in roles for one in loaded.station.devices.named(wanted)]
        raise UsageError(
            f"{name} is no {' or '.join(roles)}", expected="one of " + ", ".join(fitting), seen=f"{name}, a {role}"
        )


def _only_ctrl_c(stop: KeyboardInterrupt) -> None:
    """Ctrl-C is how these commands end; a stop by SIGTERM goes on up."""
    from labctl.osal import Terminated

    if isinstance(stop, Terminated):
        raise stop
