"""Entry points of the mock bench. Its parameters stand once, in the station's table ``[mock]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.errors import CapabilityError
from drivers.protocols import OpenContext
from mock_hardware.bench import MockBench
from mock_hardware.camera import MockCamera
from mock_hardware.config import parse
from mock_hardware.devices import MockDisplay, MockSlm, MockSource
from mock_hardware.truth import MockTruth


def open_slm(name: str, options: Mapping[str, Any], context: OpenContext) -> MockSlm:
    """The SLM of the station's mock bench."""
    return MockSlm(name, _bench(name, options, context))


def open_display(name: str, options: Mapping[str, Any], context: OpenContext) -> MockDisplay:
    """The display of the station's mock bench."""
    return MockDisplay(name, _bench(name, options, context))


def open_camera(name: str, options: Mapping[str, Any], context: OpenContext) -> MockCamera:
    """The camera of the station's mock bench."""
    return MockCamera(name, _bench(name, options, context))


def open_source(name: str, options: Mapping[str, Any], context: OpenContext) -> MockSource:
    """The light of the station's mock bench."""
    return MockSource(name, _bench(name, options, context))


def open_truth(name: str, options: Mapping[str, Any], context: OpenContext) -> MockTruth:
    """What the station's mock bench really is. ``options`` is the station's ``[layout]``."""
    return MockTruth(name, _bench(name, {}, context), options)


def describe(role: str, options: Mapping[str, Any], context: OpenContext) -> dict[str, Any]:
    """What the station's table says of a device that is not open: its shape, and of the camera how fast it may go."""
    config = parse(context.bench.get("mock", {}))
    if role == "camera":
        camera = config.camera
        return {"shape": (camera.rows, camera.cols), "max_fps": camera.max_fps}
    panel = {"slm": config.slm, "display": config.display}.get(role)
    return {"shape": (panel.rows, panel.cols)} if panel else {}


def _bench(name: str, options: Mapping[str, Any], context: OpenContext) -> MockBench:
    """``context.shared["mock"]``, made by the first device that opens."""
    if options:
        raise CapabilityError(
            "the mock's devices have no options",
            device=name,
            action="open",
            expected="no options",
            seen=", ".join(map(str, options)),
            hint="parameters of the mock bench go into [mock]",
        )
    if "mock" not in context.shared:
        context.shared["mock"] = MockBench(parse(context.bench.get("mock", {})))
    bench = context.shared["mock"]
    assert isinstance(bench, MockBench)
    return bench
