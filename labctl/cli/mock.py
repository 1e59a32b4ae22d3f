"""``labctl mock``: what only the mock bench can tell, and the mock bench behind real protocols."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.handler import SetOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from drivers.libraries.xserver import DummyX
    from drivers.protocols import Device
    from labctl.station.loading import LoadedStation

app = typer.Typer(help="The mock bench: its true numbers, or as real instruments.", no_args_is_help=True)

DESKTOP = 1024, 768
"""Columns and rows of the monitor that is no panel."""
WATCH_S = 0.25
"""From one look at the servers to the next [s]."""


@command(app)
def truth(lab: Lab, set_: SetOption = None) -> None:
    """Print what the mock's optics really are. Its parameters, and the channel that follows from its pixels.

    For tests and for reports about the mock. A calibration must find it without looking.
    """
    from drivers.registry import open_device
    from labctl.bench.bench import open_context

    station = lab.station(set_).station
    context = open_context(station)
    with open_device("mock.truth", "truth", {"layout": station.layout.model_dump()}, context) as device:
        document = device.snapshot()
    channel = document["effective"]
    before, after = channel["crosstalk"]
    lab.console.result(
        document,
        f"gain       {channel['gain_mean_dn']:.5g} DN ± {channel['gain_spread']:.2%} from macropixel to macropixel\n"
        f"crosstalk  {before:.3%} to the output before, {after:.3%} to the one after\n"
        f"bleed      {channel['input_bleed'][0]:.3%} from the column before, {channel['input_bleed'][1]:.3%} after\n"
        f"noise      {channel['read_dn']:.4g} DN read, {channel['shot_dn']:.4g} DN shot, "
        f"{channel['intensity_noise']:.3%} intensity\n"
        "everything else, with the gain map: --json",
    )


@command(app)
def serve(
    lab: Lab,
    display_output: Annotated[
        str, typer.Option("--display-output", metavar="NAME", help="Monitor that is the display: DUMMY1, HDMI-1.")
    ] = "",
    slm_output: Annotated[str, typer.Option("--slm-output", metavar="NAME", help="Monitor that is the SLM.")] = "",
    own_monitors: Annotated[
        bool, typer.Option("--own-monitors", help="Make monitors for both panels: an X server without a graphics card.")
    ] = False,
    write_station: Annotated[
        Path | None, typer.Option("--write-station", metavar="FILE", help="Write the station file of the other side.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing FILE.")] = False,
    host: Annotated[str, typer.Option("--host", help="Address of the camera and the power meter.")] = "127.0.0.1",
    beyond_this_computer: Annotated[
        bool, typer.Option("--beyond-this-computer", help="Allow a --host that others reach; there is no password.")
    ] = False,
    meter_port: Annotated[
        int, typer.Option("--meter-port", min=0, max=65535, help="TCP port; 0 for any that is free.")
    ] = 5025,
    laser_link: Annotated[
        Path | None, typer.Option("--laser-link", metavar="PATH", help="Path that leads to the laser's serial line.")
    ] = None,
    set_: SetOption = None,
) -> None:
    """Put the mock bench behind real protocols, until Ctrl-C.

    A GigE Vision camera whose exposures are the mock bench's, monitors that are its panels, a power meter that speaks
    SCPI, a laser on a serial line. Whatever drives such instruments drives the bench: labctl, or another program.
    """
    from drivers.registry import open_device
    from labctl.archive.outputs import EDITED, require_output
    from labctl.bench.bench import open_context
    from labctl.osal import state_directory, stops

    loaded = lab.station(set_)
    if write_station is not None:
        require_output(write_station, EDITED, [loaded.path], force=force)
    monitors = _own_monitors(loaded) if own_monitors else None
    if monitors is not None:
        os.environ.update(monitors.environment)
        display_output, slm_output = "DUMMY1", "DUMMY2"
    link = laser_link or state_directory() / "served-laser"
    link.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "display_output": display_output,
        "slm_output": slm_output,
        "host": host,
        "beyond_this_computer": beyond_this_computer,
        "meter_port": meter_port,
        "laser_link": str(link),
        "wavelength_nm": loaded.station.source.wavelength_nm,
    }
    if beyond_this_computer:
        lab.console.warn(f"whoever reaches {host} over the network has this bench; there is no password")
    with (
        monitors or nullcontext(),
        stops.graceful(lambda: lab.console.say("stopping: the light goes off")),
        open_device("mock.server", "served bench", options, open_context(loaded.station)) as device,
    ):
        document = device.snapshot()
        if write_station is not None:
            _write_station(write_station, loaded, document["devices"])
        _show_served(lab, document, write_station, monitors)
        _watch(device, lambda: stops.asked is not None)


def _watch(device: Device, stopped: Callable[[], bool]) -> None:
    """Wait for a stop; an error of the servers goes up."""
    while not stopped():
        device.snapshot()
        time.sleep(WATCH_S)


def _own_monitors(loaded: LoadedStation) -> DummyX:
    """An X server with a desktop, and a monitor of the size of each panel.

    Raises
    ------
    NotConnected
        Where it cannot be started.
    """
    from drivers import NotConnected
    from drivers.libraries.xserver import INSTALL, DummyX
    from drivers.registry import describe
    from labctl.bench.bench import open_context

    context = open_context(loaded.station)
    shapes = [describe(f"mock.{panel}", panel, {}, context).shape or (0, 0) for panel in ("display", "slm")]
    try:
        return DummyX([DESKTOP, *((columns, rows) for rows, columns in shapes)])
    except (OSError, RuntimeError) as error:
        raise NotConnected(
            "no X server of our own",
            action="making monitors for the panels",
            expected="Xorg with its driver dummy, and xrandr, on Linux",
            seen=str(error),
            safe="nothing is served",
            hint=f"{INSTALL}   ·   or name monitors that are there: --display-output, --slm-output",
        ) from error


def _show_served(lab: Lab, document: dict[str, Any], written: Path | None, monitors: DummyX | None) -> None:
    from labctl.station import toml_text

    lines = [f"{name:<12} {where}" for name, where in document["served"].items()]
    if monitors is not None:
        lines += ["", f"in each other terminal first: export DISPLAY={monitors.display}"]
    if written is None:
        lines += ["", "for the station file of the other side:", "", toml_text.dumps({"devices": document["devices"]})]
    else:
        lines += ["", f"{written} written   ·   next, in another terminal: labctl align --bench {written}"]
    lab.console.result(
        {
            **document,
            "station": None if written is None else str(written),
            "environment": monitors.environment if monitors else {},
        },
        "\n".join([*lines, "", "Ctrl-C stops it"]),
    )


def _write_station(path: Path, loaded: LoadedStation, devices: dict[str, Any]) -> None:
    """The same station with the served instruments instead of the mock's own."""
    from labctl.archive.atomic import atomic_write_text
    from labctl.station import toml_text

    tables = loaded.station.model_dump()
    name = f"{tables['bench']['name']}-served"
    tables |= {
        "station": {"name": f"{tables['station']['name']}, served", "notes": "The mock bench behind real protocols."},
        "bench": {"name": name, "mode": "mock"},
        "devices": devices,
    }
    del tables["mock"]
    atomic_write_text(path, toml_text.dumps(tables))
