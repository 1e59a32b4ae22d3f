"""``labctl mock``: what only the mock bench can tell."""

from __future__ import annotations

import typer

from labctl.cli.handler import SetOption, command
from labctl.lab import Lab

app = typer.Typer(help="What only the mock bench can tell.", no_args_is_help=True)


@command(app)
def truth(lab: Lab, set_: SetOption = None) -> None:
    """Print what the mock's optics really are: parameters, and the channel that follows from its pixels.

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
