"""One table of what GenICam cameras call their features, and in which units.

Names differ between makers and between years: ``ExposureTime``, ``ExposureTimeAbs``, ``ExposureTimeRaw``; µs here and
ms there. A name that a new camera needs is added here and nowhere else.

Names are those of the Standard Features Naming Convention (EMVA, SFNC 2.7), of its version 1, and of makers' manuals.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scaled:
    """A number with a unit: ``Scaled("ExposureTime", 1e-6)`` is in µs.

    Attributes
    ----------
    name
        Of the feature.
    scale
        What one unit is in SI units; None where only the camera says it.
    base
        Feature that holds what one unit is, itself in units of ``scale``.
    """

    name: str
    scale: float | None
    base: str = ""


EXPOSURE = (
    Scaled("ExposureTime", 1e-6),
    Scaled("ExposureTimeAbs", 1e-6),
    Scaled("ExposureTimeRaw", 1e-6, base="ExposureTimeBaseAbs"),
    Scaled("ExposureTimeRaw", None),
    Scaled("ExposureValue", 1e-6),
    Scaled("IntegrationTime", 1e-6),
    Scaled("Exposure", None),
    Scaled("ShutterTime", None),
)
"""Exposure time, the name that is looked for first at the top. A unit that the camera itself declares comes before the
table's: some makers have ``ExposureTime`` in ms."""

UNITS_S = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "usec": 1e-6, "ns": 1e-9}
"""Units of time, as cameras write them [s]."""

FRAME_RATE = "AcquisitionFrameRate", "AcquisitionFrameRateAbs"
"""Frames per second that are asked for [Hz]."""
FRAME_RATE_ENABLE = "AcquisitionFrameRateEnable", "AcquisitionFrameRateEnabled"
"""Whether they are; where it is off, the camera runs as fast as it can."""
FRAME_RATE_NOW = (
    "ResultingFrameRate",
    "ResultingFrameRateAbs",
    "AcquisitionResultingFrameRate",
    "AcquisitionFrameRateResulting",
)
"""Frames per second that the present settings really give [Hz]."""

GAIN = {"Gain": "gain_db", "GainAbs": "gain_db", "GainRaw": "gain_raw"}
"""Gain, and what it is called in a snapshot."""

AUTOMATICS: dict[str, int | bool | str] = {
    "ExposureAuto": "Off",
    "GainAuto": "Off",
    "BlackLevelAuto": "Off",
    "BalanceWhiteAuto": "Off",
    "AcquisitionFrameRateAuto": "Off",
    "pgrExposureCompensationAuto": "Off",
    "ExposureMode": "Timed",
    "GammaEnable": False,
    "GammaEnabled": False,
    "LUTEnable": False,
    "SharpnessEnable": False,
    "SharpeningEnable": False,
    "DigitalShift": 0,
}
"""What makes counts depend on the picture, or not proportional to light, and the value at which it does not."""

TIMESTAMP_HZ = "GevTimestampTickFrequency", "TimestampTickFrequency", "DeviceTimestampFrequency"
"""Ticks of the camera's clock per second; SFNC 2 has none of them, and its ticks are nanoseconds."""

SNAPSHOT = {
    "BlackLevel": "black_level",
    "BlackLevelRaw": "black_level_raw",
    "DeviceTemperature": "temperature_degc",
    "BinningHorizontal": "binning_horizontal_px",
    "BinningVertical": "binning_vertical_px",
    "DecimationHorizontal": "decimation_horizontal_px",
    "DecimationVertical": "decimation_vertical_px",
    "ReverseX": "reverse_x",
    "ReverseY": "reverse_y",
    "Gamma": "gamma",
    "TestPattern": "test_pattern",
    "TestImageSelector": "test_pattern",
}
"""What else a snapshot says of a camera, and what it is called there."""

ADJUSTABLE = "frame_rate_hz", "gain_db", "gain_raw", "black_level", "black_level_raw"
"""Of a snapshot, what is set again when it is restored."""

IDENTITY = {
    "vendor": ("DeviceVendorName",),
    "model": ("DeviceModelName",),
    "serial": ("DeviceSerialNumber", "DeviceID", "DeviceMfgSerialNumber"),
    "firmware": ("DeviceFirmwareVersion", "DeviceVersion"),
}
"""What a camera says that it is, by the fields of `Identity`."""

FRAME_TRIGGERS = "FrameStart", "ExposureStart", "AcquisitionActive"
"""Which of a camera's triggers starts one exposure, the name that is looked for first at the left."""
