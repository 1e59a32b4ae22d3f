"""Entry points of the mock bench. The bench's parameters stand once, in the station's table ``[mock]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from drivers.backend import PANEL, Backend
from drivers.options import Checked, NoOptions, option
from drivers.protocols import DeviceFacts, OpenContext
from mock_hardware.bench import MockBench
from mock_hardware.camera import MockCamera
from mock_hardware.config import BenchConfig, PanelConfig, parse
from mock_hardware.devices import MockDevice, MockDisplay, MockSlm, MockSource
from mock_hardware.slow import MockInterlock, MockMonitor
from mock_hardware.truth import MockTruth

D = TypeVar("D", bound=MockDevice)


@dataclass(frozen=True)
class SourceOptions(Checked):
    """Options of ``mock.source``.

    Attributes
    ----------
    state_file
        A file that gets a line ``on`` or ``off`` each time that the light changes, so that another process sees
        whether it is on; empty for none.
    """

    state_file: str = ""


@dataclass(frozen=True)
class MonitorOptions(Checked):
    """Options of ``mock.monitor``.

    Attributes
    ----------
    quantity
        ``"power"`` of the source, before the panels [W], or ``"temperature"`` of the sensor [°C].
    power_noise_rel
        Noise of a power reading, relative: standard deviation [1].
    temperature_noise_c
        Noise of a temperature reading: standard deviation [°C].
    """

    quantity: Literal["power", "temperature"] = "power"
    power_noise_rel: float = option(0, 1, 0.002)
    temperature_noise_c: float = option(0, 10, 0.05)


@dataclass(frozen=True)
class InterlockOptions(Checked):
    """Options of ``mock.interlock``.

    Attributes
    ----------
    tripped
        Why it is open from the start; empty when it is closed. The fault ``interlock@FRAME:FRAMES`` opens it later.
    """

    tripped: str = ""


@dataclass(frozen=True)
class TruthOptions(Checked):
    """Options of ``mock.truth``.

    Attributes
    ----------
    layout
        The station's ``[layout]``, for the channel that follows from the pixels.
    """

    layout: Mapping[str, Any] = field(default_factory=dict)


def _config(context: OpenContext) -> BenchConfig:
    return parse(context.bench.get("mock", {}))


def _on_bench(context: OpenContext, make: Callable[[MockBench, Callable[[], None]], D]) -> D:
    """A device of the station's bench, which the first device makes and the last one ends."""
    hold = context.resources.share("mock", lambda: MockBench(_config(context)), lambda bench: None)
    try:
        return make(hold.value, hold.release)
    except BaseException:
        hold.release()
        raise


def _slm(name: str, options: NoOptions, context: OpenContext) -> MockSlm:
    return _on_bench(context, lambda bench, release: MockSlm(name, bench, release))


def _display(name: str, options: NoOptions, context: OpenContext) -> MockDisplay:
    return _on_bench(context, lambda bench, release: MockDisplay(name, bench, release))


def _camera(name: str, options: NoOptions, context: OpenContext) -> MockCamera:
    return _on_bench(context, lambda bench, release: MockCamera(name, bench, release))


def _source(name: str, options: SourceOptions, context: OpenContext) -> MockSource:
    return _on_bench(context, lambda bench, release: MockSource(name, bench, release, options.state_file))


def _monitor(name: str, options: MonitorOptions, context: OpenContext) -> MockMonitor:
    noise = options.power_noise_rel if options.quantity == "power" else options.temperature_noise_c
    return _on_bench(context, lambda bench, release: MockMonitor(name, bench, options.quantity, noise, release))


def _interlock(name: str, options: InterlockOptions, context: OpenContext) -> MockInterlock:
    return _on_bench(context, lambda bench, release: MockInterlock(name, bench, options.tripped, release))


def _truth(name: str, options: TruthOptions, context: OpenContext) -> MockTruth:
    return _on_bench(context, lambda bench, release: MockTruth(name, bench, options.layout, release))


def _panel_facts(panel: PanelConfig) -> DeviceFacts:
    return DeviceFacts(shape=(panel.rows, panel.cols), levels=panel.levels, refresh_hz=panel.refresh_hz)


def _slm_facts(options: NoOptions, context: OpenContext) -> DeviceFacts:
    return _panel_facts(_config(context).slm)


def _display_facts(options: NoOptions, context: OpenContext) -> DeviceFacts:
    return _panel_facts(_config(context).display)


def _camera_facts(options: NoOptions, context: OpenContext) -> DeviceFacts:
    camera = _config(context).camera
    return DeviceFacts(shape=(camera.rows, camera.cols), bit_depth=camera.bit_depth, max_fps=camera.max_fps)


def _no_facts(options: Any, context: OpenContext) -> DeviceFacts:
    """Nothing, once the bench's table has been read: a mistake in it is found without opening a device."""
    _config(context)
    return DeviceFacts()


SLM = Backend("mock.slm", PANEL, NoOptions, _slm, _slm_facts)
"""The SLM of the station's mock bench."""
DISPLAY = Backend("mock.display", PANEL, NoOptions, _display, _display_facts)
"""The display of the station's mock bench."""
CAMERA = Backend("mock.camera", ("camera",), NoOptions, _camera, _camera_facts)
"""The camera of the station's mock bench."""
SOURCE = Backend("mock.source", ("source",), SourceOptions, _source, _no_facts)
"""The light of the station's mock bench."""
MONITOR = Backend("mock.monitor", ("monitor",), MonitorOptions, _monitor, _no_facts)
"""A power meter or a thermometer on the station's mock bench."""
INTERLOCK = Backend("mock.interlock", ("interlock",), InterlockOptions, _interlock, _no_facts)
"""The interlock of the station's mock bench."""
TRUTH = Backend("mock.truth", (), TruthOptions, _truth)
"""What the station's mock bench really is."""
