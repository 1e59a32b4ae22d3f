"""A machine that nobody has measured, to count the frames that products take: it shows them as a perfect one would."""

from __future__ import annotations

import numpy as np

from calibration.machine.channel import Channel
from calibration.machine.encoding import encoding
from calibration.machine.lut import Lut
from calibration.machine.machine import Machine
from calibration.machine.noise import Noise
from labctl.nodes.node import Setting
from labctl.nodes.registration import layout_of


def nominal_machine(setting: Setting) -> Machine:
    """Equal gains, no crosstalk, straight look-up tables; layout, levels and encoding are the station's."""
    facts = setting.facts
    assert facts is not None
    layout = layout_of(setting.station, facts.slm_shape)
    ones, nothing = np.ones((layout.rows, layout.columns)), np.zeros(layout.rows)
    neighbours, pair = np.zeros((layout.rows, 2)), np.zeros(2)
    noise = Noise(1.0, 1.0, 0.0, np.zeros(3))
    channel = Channel(ones, 0 * ones, nothing, nothing, neighbours, neighbours, pair, pair, noise)
    display, slm = (_straight(levels) for levels in (facts.levels.display, facts.levels.slm))
    return Machine(layout, display, slm, channel, encoding(setting.station.layout.encoding))


def _straight(levels: int) -> Lut:
    return Lut(np.linspace(0.0, 1.0, levels), np.zeros(levels))
