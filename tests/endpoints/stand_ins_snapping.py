"""Stand-ins for the libraries of cameras that expose when they are called: contract fakes, as `stand_ins` says."""

from __future__ import annotations

import ctypes
import types
from typing import Any

import numpy as np
import pytest
from stand_in_sensor import Node, Sensor, field_of, module, stored, whole
from stand_ins import fresh, labelled

from drivers.libraries.loading import load

# --- Allied Vision: vmbpy ---------------------------------------------------------------------------------------------


class Feature:
    """A feature of vmbpy."""

    def __init__(self, node: Node) -> None:
        self.get, self.set = node.GetValue, node.SetValue


class AlliedVision:
    """``vmbpy`` with a camera of 12 bit, which calls its pixels ones of 16."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sensor = Sensor(12)
        module(monkeypatch, "vmbpy", VmbSystem=types.SimpleNamespace(get_instance=lambda: self))
        fresh(monkeypatch, "slmsuite.hardware.cameras.alliedvision")
        labelled(monkeypatch, "Allied Vision")

    def __enter__(self) -> AlliedVision:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def get_all_cameras(self) -> list[Any]:
        return [AlliedVisionCamera(self.sensor)]


class AlliedVisionCamera:
    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        rows, columns = Sensor.shape
        sensor.x = sensor.y = 0
        sensor.height, sensor.width = rows, columns
        for name, value in {
            "BinningHorizontal": 1,
            "BinningVertical": 1,
            "GainAuto": "Continuous",
            "ExposureAuto": "Continuous",
            "ExposureMode": "Timed",
            "AcquisitionMode": "Continuous",
            "TriggerSelector": "FrameStart",
            "TriggerMode": "On",
            "TriggerActivation": "RisingEdge",
            "TriggerSource": "Line1",
            "PixelSize": "Bpp16",
            "PixelFormat": "Mono12",
            "SensorWidth": columns,
            "SensorHeight": rows,
        }.items():
            setattr(self, name, Feature(stored(value)))
        self.ExposureTime = Feature(field_of(sensor, "exposure_us", 20.0, 5e6))
        self.OffsetX, self.OffsetY = Feature(field_of(sensor, "x", 0, columns)), Feature(field_of(sensor, "y", 0, rows))
        self.Width = Feature(field_of(sensor, "width", 1, columns))
        self.Height = Feature(field_of(sensor, "height", 1, rows))

    def get_serial(self) -> str:
        return "FAKE01"

    def __enter__(self) -> AlliedVisionCamera:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def get_frame(self, timeout_ms: int) -> Any:
        frame = self._sensor.snap(whole(timeout_ms) / 1e3)
        if frame is None:
            raise TimeoutError("VmbTimeout")
        return types.SimpleNamespace(as_numpy_ndarray=lambda: frame[:, :, None])


# --- pylablib, instrumental: one object of many kinds of cameras ------------------------------------------------------


class Pylablib:
    """``pylablib.devices.interface.camera``, and a camera of 12 bit that says nothing of its bits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sensor = self.sensor = Sensor(12)

        class ICamera:
            def get_device_info(self) -> tuple[str, str]:
                return ("contract fake", "FAKE01")

            def get_data_dimensions(self) -> tuple[int, int]:
                return sensor.height, sensor.width

            def get_exposure(self) -> float:
                return sensor.exposure_us / 1e6

            def set_exposure(self, exposure: float) -> None:
                sensor.exposure_us = exposure * 1e6

            def get_roi(self) -> tuple[int, ...]:
                return sensor.x, sensor.x + sensor.width, sensor.y, sensor.y + sensor.height, 1, 1

            def set_roi(self, hstart: int, hend: int, vstart: int, vend: int, hbin: int = 1, vbin: int = 1) -> None:
                sensor.x, sensor.y, sensor.width, sensor.height = hstart, vstart, hend - hstart, vend - vstart

            def snap(self, timeout: float) -> np.ndarray:
                frame = sensor.snap(timeout)
                if frame is None:
                    raise TimeoutError("timeout")
                return frame

            def close(self) -> None:
                self.set_roi(0, Sensor.shape[1], 0, Sensor.shape[0])

        for name in ("pylablib", "pylablib.devices", "pylablib.devices.interface"):
            module(monkeypatch, name, __path__=[])
        module(monkeypatch, "pylablib.devices.interface.camera", ICamera=ICamera)
        fresh(monkeypatch, "slmsuite.hardware.cameras.pylablib")
        labelled(monkeypatch, "pylablib")


class Quantity:
    """A number with a unit, in seconds."""

    def __init__(self, magnitude: float) -> None:
        self.magnitude = magnitude

    def __rmul__(self, number: float) -> Quantity:
        return Quantity(number * self.magnitude)

    def to(self, unit: str) -> Quantity:
        assert unit == "s"
        return self


class Instrumental:
    """``instrumental`` with one camera of 8 bit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sensor = self.sensor = Sensor(8)

        class Camera:
            model, serial = b"contract fake", b"FAKE01"
            height, width = Sensor.shape

            @property
            def exposure(self) -> Quantity:
                return Quantity(sensor.exposure_us / 1e6)

            @exposure.setter
            def exposure(self, value: Quantity) -> None:
                sensor.exposure_us = value.magnitude * 1e6

            def grab_image(self, timeout: str, copy: bool) -> np.ndarray:
                assert timeout.endswith("s")
                frame = sensor.snap(float(timeout[:-1]))
                if frame is None:
                    raise TimeoutError("timeout")
                return frame.astype(np.uint8)

            def close(self) -> None:
                pass

        class ParamSet:
            pass

        cameras = module(monkeypatch, "instrumental.drivers.cameras", Camera=Camera)
        drivers = module(monkeypatch, "instrumental.drivers", __path__=[], ParamSet=ParamSet, cameras=cameras)
        module(
            monkeypatch,
            "instrumental",
            __path__=[],
            drivers=drivers,
            instrument=lambda found, reopen_policy: Camera(),
            list_instruments=lambda: [ParamSet()],
            u=types.SimpleNamespace(s=Quantity(1.0)),
        )
        fresh(monkeypatch, "slmsuite.hardware.cameras.instrumental")
        labelled(monkeypatch, "instrumental-lib")


# --- The Imaging Source: tisgrabber_x64.dll ---------------------------------------------------------------------------


class ImagingSource:
    """``tisgrabber_x64.dll`` and ``tisgrabber``, with a gray camera of 8 bit that is handed out as RGB."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sensor = Sensor(8)
        names = {"T": str.encode, "D": bytes.decode, "declareFunctions": lambda sdk: None}
        module(monkeypatch, "tisgrabber", **names)
        fresh(monkeypatch, "slmsuite.hardware.cameras.imagingsource")
        found = load("slmsuite.hardware.cameras.imagingsource")
        windows = types.ModuleType("ctypes")
        windows.__dict__.update(vars(ctypes), cdll=types.SimpleNamespace(LoadLibrary=lambda path: self))
        monkeypatch.setattr(found, "ctypes", windows)
        labelled(monkeypatch, "The Imaging Source")
        self._live = False

    def IC_InitLibrary(self, key: int) -> int:
        return 1

    def IC_CreateGrabber(self) -> int:
        s = self.sensor
        s.x = s.y = 0
        s.height, s.width = s.shape
        return 1

    def IC_OpenDevByUniqueName(self, grabber: int, name: bytes) -> int:
        return int(name == b"DMK contract fake 1")

    def IC_ReleaseGrabber(self, grabber: int) -> None:
        pass

    def IC_PrepareLive(self, grabber: int) -> int:
        return 1

    def IC_SetVideoFormat(self, grabber: int, format: bytes) -> int:
        size = format.decode().partition("(")[2].rstrip(")")
        width, height = (int(n) for n in size.split("x"))
        self.sensor.width, self.sensor.height = width, height
        return int(width <= Sensor.shape[1] and height <= Sensor.shape[0])

    def IC_GetImageDescription(self, grabber: int, width: Any, height: Any, bits: Any, colours: Any) -> int:
        width.value, height.value, bits.value = self.sensor.width, self.sensor.height, 24
        return 1

    def IC_GetPropertyAbsoluteValue(self, grabber: int, item: bytes, element: bytes, value: Any) -> int:
        assert (item, element) == (b"Exposure", b"Value")
        value.value = self.sensor.exposure_us / 1e6
        return 1

    def IC_SetPropertyAbsoluteValue(self, grabber: int, item: bytes, element: bytes, value: ctypes.c_float) -> int:
        assert isinstance(value, ctypes.c_float)
        self.sensor.exposure_us = value.value * 1e6
        return 1

    def IC_SetPropertySwitch(self, grabber: int, item: bytes, element: bytes, on: int) -> int:
        return int(on == 0)

    def IC_SetPropertyValue(self, grabber: int, item: bytes, element: bytes, value: int) -> int:
        setattr(self.sensor, {b"X Offset": "x", b"Y Offset": "y"}[element], whole(value))
        return 1

    def IC_GetPropertyValue(self, grabber: int, item: bytes, element: bytes, value: Any) -> int:
        value.value = getattr(self.sensor, {b"X Offset": "x", b"Y Offset": "y"}[element])
        return 1

    def IC_GetPropertyMapStrings(self, grabber: int, item: bytes, element: bytes, text: Any, size: int) -> int:
        return 0

    def IC_StartLive(self, grabber: int, show: int) -> int:
        self._live = True
        self.sensor.clear()
        return 1

    def IC_StopLive(self, grabber: int) -> int:
        self._live = False
        return 1

    def IC_SnapImage(self, grabber: int, timeout_ms: int) -> int:
        assert self._live
        frame = self.sensor.snap(whole(timeout_ms) / 1e3)
        if frame is None:
            return 0
        self._memory = np.repeat(frame.astype(np.uint8)[:, :, None], 3, axis=2).copy()
        return 1

    def IC_GetImagePtr(self, grabber: int) -> int:
        return self._memory.ctypes.data
