"""Stand-ins for the libraries of cameras that keep frames in a queue: contract fakes, as `stand_ins` says.

Each has one camera connected, whose frames take their exposure and carry their number in the first pixel. A frame can
be made to come late: after the call that asked for it has given up.
"""

from __future__ import annotations

import ctypes
import os
import sys
import types
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from stand_in_sensor import Node, Sensor, SpinnakerException, field_of, module, stored, whole
from stand_ins import fresh, labelled

# --- Thorlabs: thorlabs_tsi_sdk ---------------------------------------------------------------------------------------

TsiRoi = namedtuple("TsiRoi", "upper_left_x_pixels upper_left_y_pixels lower_right_x_pixels lower_right_y_pixels")


class Thorlabs:
    """``thorlabs_tsi_sdk.tl_camera``: frames wait in a queue, in memory that the next frame is written over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sensor = Sensor(12)
        module(monkeypatch, "thorlabs_tsi_sdk")
        module(monkeypatch, "thorlabs_tsi_sdk.tl_camera", TLCameraSDK=lambda: self, ROI=TsiRoi)
        monkeypatch.setenv("PATH", os.environ["PATH"])  # which slmsuite's module writes to
        fresh(monkeypatch, "slmsuite.hardware.cameras.thorlabs")
        labelled(monkeypatch, "Thorlabs")

    def discover_available_cameras(self) -> list[str]:
        return ["FAKE01"]

    def open_camera(self, serial: str) -> ThorlabsCamera:
        assert serial == "FAKE01"
        return ThorlabsCamera(self.sensor)

    def dispose(self) -> None:
        pass


class ThorlabsCamera:
    bit_depth = 12
    image_height_pixels, image_width_pixels = Sensor.shape
    sensor_pixel_width_um = sensor_pixel_height_um = 3.45
    binx = biny = 1
    is_led_on = True
    frames_per_trigger_zero_for_unlimited = operation_mode = 0
    roi_range = types.SimpleNamespace(lower_right_x_pixels_max=Sensor.shape[1] - 1)

    def __init__(self, sensor: Sensor) -> None:
        self._sensor, self._armed = sensor, False
        self._memory = np.zeros(Sensor.shape, np.uint16)
        sensor.x = sensor.y = 0
        sensor.height, sensor.width = Sensor.shape

    @property
    def exposure_time_us(self) -> int:
        return int(self._sensor.exposure_us)

    @exposure_time_us.setter
    def exposure_time_us(self, value: int) -> None:
        assert 40 <= whole(value) <= 20_000_000
        self._sensor.exposure_us = value

    @property
    def roi(self) -> TsiRoi:
        s = self._sensor
        return TsiRoi(s.x, s.y, s.x + s.width - 1, s.y + s.height - 1)

    @roi.setter
    def roi(self, value: TsiRoi) -> None:
        assert not self._armed, "the region can only be set while the camera is disarmed"
        s = self._sensor
        s.x, s.y = whole(value[0]), whole(value[1])
        s.width, s.height = value[2] - value[0] + 1, value[3] - value[1] + 1

    def arm(self, frames_to_buffer: int) -> None:
        assert whole(frames_to_buffer) >= 2
        self._armed = True

    def disarm(self) -> None:
        self._armed = False

    def issue_software_trigger(self) -> None:
        assert self._armed
        self._sensor.trigger()

    def get_pending_frame_or_null(self) -> Any:
        frame = self._sensor.take(0.002)
        if frame is None:
            return None
        memory = self._memory[: frame.shape[0], : frame.shape[1]]
        memory[:] = frame
        return types.SimpleNamespace(image_buffer=memory, bit_depth=12)

    def dispose(self) -> None:
        self._armed = False


# --- FLIR: PySpin -----------------------------------------------------------------------------------------------------

_WORDS = """
GainAuto_Off ExposureAuto_Off ExposureMode_Timed BlackLevelSelector_All TriggerMode_On TriggerSource_Software
TriggerSelector_FrameStart PixelFormat_Mono16 PixelFormat_Mono8 AdcBitDepth_Bit12 AdcBitDepth_Bit10 AdcBitDepth_Bit8 RW
"""


class Flir:
    """``PySpin`` with a camera of 12 bit, at the left of 16, as Mono16 is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sensor = Sensor(12)
        words = types.ModuleType("PySpin")
        for word in _WORDS.split():
            setattr(words, word, word.rpartition("_")[2])
        words.__dict__.update(
            SpinnakerException=SpinnakerException,
            System=types.SimpleNamespace(GetInstance=lambda: self),
            CStringPtr=lambda node: node,
            CIntegerPtr=lambda node: node,
            IsReadable=lambda node: True,
            IsWritable=lambda node: True,
        )
        monkeypatch.setitem(sys.modules, "PySpin", words)
        fresh(monkeypatch, "slmsuite.hardware.cameras.flir")
        labelled(monkeypatch, "FLIR")

    def GetCameras(self) -> Flir:
        return self

    def GetSize(self) -> int:
        return 1

    def GetByIndex(self, index: int) -> FlirCamera:
        return FlirCamera(self.sensor)

    def GetBySerial(self, serial: str) -> FlirCamera:
        return FlirCamera(self.sensor)

    def Clear(self) -> None:
        pass


class FlirCamera:
    def __init__(self, sensor: Sensor) -> None:
        self._sensor, self._streaming = sensor, False
        rows, columns = Sensor.shape
        sensor.x = sensor.y = 0
        sensor.height, sensor.width = rows, columns
        for name, value in {
            "GainAuto": "Continuous",
            "Gain": 3.0,
            "ExposureAuto": "Continuous",
            "ExposureMode": "Timed",
            "BlackLevelSelector": "All",
            "BlackLevel": 1.0,
            "GammaEnable": True,
            "AdcBitDepth": "Bit12",
            "PixelFormat": "Mono8",
            "TriggerMode": "Off",
            "TriggerSource": "Software",
            "TriggerSelector": "FrameStart",
            "AcquisitionFrameRateEnable": True,
            "AcquisitionFrameRate": 30.0,
        }.items():
            setattr(self, name, stored(value))
        self.ExposureTime = field_of(sensor, "exposure_us", 20.0, 5e6)
        self.OffsetX, self.OffsetY = field_of(sensor, "x", 0, columns), field_of(sensor, "y", 0, rows)
        self.Width, self.Height = field_of(sensor, "width", 1, columns), field_of(sensor, "height", 1, rows)
        self.WidthMax, self.HeightMax = stored(columns), stored(rows)
        self.TriggerSoftware = types.SimpleNamespace(Execute=self._trigger)

    def GetTLDeviceNodeMap(self) -> FlirCamera:
        return self

    GetNodeMap = GetTLDeviceNodeMap

    def GetNode(self, name: str) -> Node:
        return stored({"DeviceSerialNumber": "FAKE01"}.get(name, 1))

    def Init(self) -> None:
        pass

    def DeInit(self) -> None:
        pass

    def IsStreaming(self) -> bool:
        return self._streaming

    def BeginAcquisition(self) -> None:
        self._streaming = True

    def EndAcquisition(self) -> None:
        self._streaming = False
        self._sensor.clear()

    def GetNextImage(self, timeout_ms: int) -> Any:
        frame = self._sensor.take(whole(timeout_ms) / 1e3) if self._streaming else None
        if frame is None:
            raise SpinnakerException("Failed waiting for EventData [-1011]")
        return types.SimpleNamespace(
            IsIncomplete=lambda: False, GetNDArray=lambda: frame << 4, Release=lambda: None, GetImageStatus=lambda: 0
        )

    def _trigger(self) -> None:
        if not self._streaming:
            raise SpinnakerException("not streaming")
        self._sensor.trigger()


# --- MindVision: mvsdk ------------------------------------------------------------------------------------------------


class CameraException(Exception):
    def __init__(self, error_code: int) -> None:
        super().__init__(error_code)
        self.error_code, self.message = error_code, "timeout"


class MindVision:
    """``mvsdk`` with a gray camera of 8 bit."""

    c_ubyte = ctypes.c_ubyte
    CAMERA_MEDIA_TYPE_MONO8, CAMERA_MEDIA_TYPE_BGR8 = 0x01080001, 0x02180015
    CameraException = CameraException

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sensor = Sensor(8)
        names = {
            name: getattr(self, name) for name in dir(self) if name.startswith(("Camera", "CAMERA", "c_", "_Init"))
        }
        module(monkeypatch, "mvsdk", **names)
        fresh(monkeypatch, "slmsuite.hardware.cameras.mindvision")
        labelled(monkeypatch, "MindVision")

    def _Init(self) -> None:
        pass

    def CameraEnumerateDevice(self) -> list[Any]:
        return [types.SimpleNamespace(GetSn=lambda: "FAKE01")]

    def CameraInit(self, device: Any, parameters: int, team: int) -> int:
        assert (parameters, team) == (-1, -1)
        s = self.sensor
        s.x = s.y = 0
        s.height, s.width = s.shape
        return 1

    def CameraGetCapability(self, handle: int) -> Any:
        size = types.SimpleNamespace(iWidthMax=Sensor.shape[1], iHeightMax=Sensor.shape[0])
        return types.SimpleNamespace(sIspCapacity=types.SimpleNamespace(bMonoSensor=1), sResolutionRange=size)

    def CameraSetIspOutFormat(self, handle: int, format: int) -> None:
        assert format == self.CAMERA_MEDIA_TYPE_MONO8

    def CameraSetTriggerMode(self, handle: int, mode: int) -> None:
        assert mode == 1

    def CameraSetAeState(self, handle: int, state: int) -> None:
        assert state == 0

    def CameraSetExposureTime(self, handle: int, exposure_us: float) -> None:
        assert 10 <= exposure_us <= 1e7
        self.sensor.exposure_us = float(exposure_us)

    def CameraGetExposureTime(self, handle: int) -> float:
        return self.sensor.exposure_us

    def CameraPlay(self, handle: int) -> None:
        pass

    def CameraUnInit(self, handle: int) -> None:
        pass

    def CameraAlignMalloc(self, size: int, align: int) -> int:
        self._memory = (ctypes.c_ubyte * size)()
        return ctypes.addressof(self._memory)

    def CameraAlignFree(self, address: int) -> None:
        assert address == ctypes.addressof(self._memory)

    def CameraGetImageResolution(self, handle: int) -> Any:
        s = self.sensor
        return types.SimpleNamespace(
            iIndex=0,
            iHOffsetFOV=s.x,
            iVOffsetFOV=s.y,
            iWidthFOV=s.width,
            iHeightFOV=s.height,
            iWidth=s.width,
            iHeight=s.height,
            uBinSumMode=0,
            uBinAverageMode=0,
        )

    def CameraSetImageResolution(self, handle: int, resolution: Any) -> None:
        assert resolution.iIndex == 0xFF, "only a resolution of one's own has offsets"
        s = self.sensor
        s.x, s.y = whole(resolution.iHOffsetFOV), whole(resolution.iVOffsetFOV)
        s.width, s.height = whole(resolution.iWidth), whole(resolution.iHeight)

    def CameraSoftTrigger(self, handle: int) -> None:
        self.sensor.trigger()

    def CameraClearBuffer(self, handle: int) -> None:
        self.sensor.clear()

    def CameraGetImageBuffer(self, handle: int, timeout_ms: int) -> tuple[Any, Any]:
        frame = self.sensor.take(whole(timeout_ms) / 1e3)
        if frame is None:
            raise CameraException(-12)
        return frame.astype(np.uint8), types.SimpleNamespace(uBytes=frame.size)

    def CameraImageProcess(self, handle: int, raw: Any, address: int, head: Any) -> None:
        pixels = np.ascontiguousarray(raw)
        ctypes.memmove(address, pixels.ctypes.data, pixels.size)

    def CameraReleaseImageBuffer(self, handle: int, raw: Any) -> None:
        pass
