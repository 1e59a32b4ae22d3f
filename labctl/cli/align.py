"""``labctl align``: first light, for a person at the bench."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundwork.opening.regular import read_regular
from labctl.cli.handler import ForceOption, SetOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.align.findings import Finding
    from labctl.align.proposal import Proposed
    from labctl.station.loading import LoadedStation

PICTURES = 130
"""About how many pictures are shown, for the progress bar."""


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app, "align")(align)


def align(
    lab: Lab,
    write: Annotated[
        bool, typer.Option("--write/--no-write", help="Write what is proposed into the station file, with its reasons.")
    ] = True,
    accept_blur: Annotated[
        bool, typer.Option("--accept-blur", help="It is as sharp as it gets: make the macropixels larger instead.")
    ] = False,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Where the picture goes; beside the station file if left out.")
    ] = None,
    force: ForceOption = False,
    set_: SetOption = None,
) -> int:
    """First light: find light, panels, focus; say what is wrong.

    How long the panels take to settle is measured, too.

    Shows stripes on both panels, one after another. Proposes exposure, settle frames and layout, and writes them into
    the station file with comments. Exit code 10 when something is so wrong that a calibration would be worthless.
    """
    from labctl.align.findings import findings
    from labctl.align.look import look
    from labctl.align.proposal import layout_window, proposals
    from labctl.archive.outputs import PICTURE, require_output
    from labctl.bench.bench import open_bench
    from labctl.engine.holding import devices_in_use, holding

    loaded = lab.station(set_)
    target = figure or _beside(loaded)
    require_output(target, PICTURE, [loaded.path], force=force or figure is None)  # the usual name is labctl's own
    station = loaded.station
    before = _text(loaded.path)
    with (
        holding(lab, loaded.bench, "labctl align"),
        devices_in_use(lab, station) as require_held,
        open_bench(station) as bench,
        lab.console.progress("looking", PICTURES) as bar,
    ):

        def seen() -> None:
            require_held()
            bar.advance(1)

        settings = station.acquisition
        view = look(bench, settings.exposure_s, settings.fetch_timeout_s, seen)
    found, proposed = findings(view, station, accept_blur), proposals(view, station)
    failed = [one for one in found if one.state == "FAIL"]
    for one in found:
        _say(lab, one)
    window = layout_window(view, station)
    if window is not None:
        x, y, width, height = window
        lab.console.say(
            f"\nthe layout is read from {width} × {height} camera pixels at ({x}, {y}); the program sets that"
        )
    drawn = _draw(target, view, station)
    reason = _why_not(loaded, before, write, bool(failed))
    written = _write(lab, loaded.path, before, proposed, reason)
    lab.console.say(f"\npicture: {drawn}" if drawn else "")
    lab.console.result(
        {
            "findings": found,
            "proposed": proposed,
            "written": written,
            "light": asdict(view.light),
            "layout_window_px": window,
            "figure": drawn,
        },
        _next(failed),
    )
    return 10 if failed else 0


def _say(lab: Lab, one: Finding) -> None:
    fix = f"\n      → {one.fix}" if one.fix else ""
    lab.console.say(f"{one.state}  {one.words}{fix}")


def _write(lab: Lab, path: Path, text: str, proposed: list[Proposed], why_not: str) -> bool:
    """Say what is proposed, and write it into the file of this text unless there is a reason not to."""
    from labctl.archive.atomic import atomic_write_text
    from labctl.station.edit import with_values

    if not proposed:
        lab.console.say("\nnothing to change in the station file")
        return False
    lab.console.say("\nproposed for the station file:")
    for one in proposed:
        lab.console.say(f"  {one.key} = {one.value}   # {one.reason}; {one.present} before")
    if why_not:
        lab.console.say(f"not written: {why_not}")
        return False
    values = {one.key: (one.value, one.reason) for one in proposed}
    atomic_write_text(path.resolve(), with_values(text, values))
    lab.console.say(f"written into {path}")
    return True


def _why_not(loaded: LoadedStation, before: str, write: bool, failed: bool) -> str:
    """Why nothing is written into the station file; empty where it may be."""
    from labctl.station.loading import SET

    if failed:
        return "mend what failed first, then look again"
    if not write:
        return "as asked"
    if _is_shipped(loaded):
        return "this station is shipped with the program; labctl station init my-bench.toml"
    if SET in loaded.origins.values():
        return "it was found for a station that --set has changed; write that into the file first, then look again"
    if _text(loaded.path) != before:
        return f"{loaded.path} was changed meanwhile; look again"
    return ""


def _text(path: Path) -> str:
    """The station file, its line ends as they are."""
    from labctl.archive.atomic import storage

    with storage(path, "reading the station file"):
        return read_regular(path).decode()


def _is_shipped(loaded: LoadedStation) -> bool:
    from labctl.resources import data_path

    return loaded.path.resolve().is_relative_to(data_path("stations").resolve())


def _beside(loaded: LoadedStation) -> Path:
    return Path("align.png") if _is_shipped(loaded) else loaded.path.with_name(f"{loaded.path.stem}-align.png")


def _draw(path: Path, view: object, station: object) -> str:
    from labctl.align.picture import picture
    from labctl.report.document import save_figure

    save_figure(path, picture(view, station), ".png", dpi=110)  # type: ignore[arg-type]
    return str(path)


def _next(failed: list[Finding]) -> str:
    if failed:
        return f"{len(failed)} wrong: mend the first one, then again: labctl align"
    return "ready   ·   next: labctl calibrate"
