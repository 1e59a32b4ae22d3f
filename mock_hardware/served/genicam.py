"""The camera's GenICam description: features by their standard names (SFNC 2), each with the register behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

BASE = 0x0002_0000


class At(IntEnum):
    """Addresses of the camera's own registers."""

    WIDTH = BASE
    HEIGHT = BASE + 0x04
    OFFSET_X = BASE + 0x08
    OFFSET_Y = BASE + 0x0C
    SENSOR_WIDTH = BASE + 0x10
    SENSOR_HEIGHT = BASE + 0x14
    PIXEL_FORMAT = BASE + 0x18
    PAYLOAD_SIZE = BASE + 0x1C
    EXPOSURE_TIME = BASE + 0x20
    FRAME_RATE = BASE + 0x28
    TEMPERATURE = BASE + 0x30
    ACQUISITION_MODE = BASE + 0x38
    ACQUISITION_START = BASE + 0x3C
    ACQUISITION_STOP = BASE + 0x40
    TRIGGER_MODE = BASE + 0x44
    TRIGGER_SELECTOR = BASE + 0x48
    TRIGGER_SOURCE = BASE + 0x4C
    TRIGGER_SOFTWARE = BASE + 0x50
    LOCKED = BASE + 0x54


BOOTSTRAP = {
    "GevCCP": 0x0A00,
    "GevHeartbeatTimeout": 0x0938,
    "GevSCPHostPort": 0x0D00,
    "GevSCPSPacketSize": 0x0D04,
    "GevSCPD": 0x0D08,
    "GevSCDA": 0x0D18,
    "GevTimestampControl": 0x0944,
    "GevTimestampValue": 0x0948,
    "GevTimestampTickFrequency": 0x093C,
}
"""Registers that every GigE Vision device has, as far as the description names them."""

_FRAME = """<?xml version="1.0" encoding="UTF-8"?>
<RegisterDescription xmlns="http://www.genicam.org/GenApi/Version_1_1"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.genicam.org/GenApi/Version_1_1 GenApiSchema_Version_1_1.xsd"
  ModelName="MockCamera" VendorName="labctl" ToolTip="The mock bench's camera" StandardNameSpace="GEV"
  SchemaMajorVersion="1" SchemaMinorVersion="1" SchemaSubMinorVersion="0"
  MajorVersion="1" MinorVersion="0" SubMinorVersion="0"
  ProductGuid="6c616263-746c-4d6f-636b-43616d657261" VersionGuid="6c616263-746c-4d6f-636b-000000000001">
{body}
</RegisterDescription>
"""


@dataclass(frozen=True)
class Facts:
    """What the description says of one camera.

    Attributes
    ----------
    rows, columns
        Of the sensor [px].
    pixel_format
        Name and number of its only one.
    exposure_us
        Shortest and longest exposure [µs].
    """

    rows: int
    columns: int
    pixel_format: tuple[str, int]
    exposure_us: tuple[float, float]


def description(facts: Facts) -> str:
    """The XML document."""
    name, value = facts.pixel_format
    shortest_us, longest_us = facts.exposure_us
    categories: dict[str, list[str]] = {
        "DeviceControl": [
            _string("DeviceVendorName", 0x0048, 32),
            _string("DeviceModelName", 0x0068, 32),
            _string("DeviceVersion", 0x0088, 32),
            _string("DeviceFirmwareVersion", 0x0088, 32),
            _string("DeviceManufacturerInfo", 0x00A8, 48),
            _string("DeviceSerialNumber", 0x00D8, 16),
            _float("DeviceTemperature", At.TEMPERATURE, "RO", "C"),
        ],
        "ImageFormatControl": [
            _integer("SensorWidth", At.SENSOR_WIDTH, "RO", 1, facts.columns, "px"),
            _integer("SensorHeight", At.SENSOR_HEIGHT, "RO", 1, facts.rows, "px"),
            _integer("WidthMax", At.SENSOR_WIDTH, "RO", 1, facts.columns, "px"),
            _integer("HeightMax", At.SENSOR_HEIGHT, "RO", 1, facts.rows, "px"),
            _extent("Width", At.WIDTH, 1, "OffsetX", facts.columns),
            _extent("Height", At.HEIGHT, 1, "OffsetY", facts.rows),
            _extent("OffsetX", At.OFFSET_X, 0, "Width", facts.columns),
            _extent("OffsetY", At.OFFSET_Y, 0, "Height", facts.rows),
            _enumeration("PixelFormat", At.PIXEL_FORMAT, {name: value}, locked=True),
        ],
        "AcquisitionControl": [
            _enumeration("AcquisitionMode", At.ACQUISITION_MODE, {"Continuous": 0}),
            _command("AcquisitionStart", At.ACQUISITION_START),
            _command("AcquisitionStop", At.ACQUISITION_STOP),
            _float("ExposureTime", At.EXPOSURE_TIME, "RW", "us", shortest_us, longest_us),
            _float("AcquisitionFrameRate", At.FRAME_RATE, "RO", "Hz"),
            _float("AcquisitionResultingFrameRate", At.FRAME_RATE, "RO", "Hz"),
            _enumeration("TriggerSelector", At.TRIGGER_SELECTOR, {"FrameStart": 0}),
            _enumeration("TriggerMode", At.TRIGGER_MODE, {"Off": 0, "On": 1}),
            _enumeration("TriggerSource", At.TRIGGER_SOURCE, {"Software": 0}),
            _command("TriggerSoftware", At.TRIGGER_SOFTWARE),
        ],
        "TransportLayerControl": [
            _integer("PayloadSize", At.PAYLOAD_SIZE, "RO", 1, 2**31 - 1, "B"),
            _integer("TLParamsLocked", At.LOCKED, "RW", 0, 1),
            _integer("GevSCPHostPort", BOOTSTRAP["GevSCPHostPort"], "RW", 0, 65535),
            _masked("GevSCPSPacketSize", BOOTSTRAP["GevSCPSPacketSize"], 576, 65535),
            _integer("GevSCPD", BOOTSTRAP["GevSCPD"], "RW", 0, 10_000_000, "ns"),
            _integer("GevSCDA", BOOTSTRAP["GevSCDA"], "RW", 0, 2**32 - 1),
            _integer("GevHeartbeatTimeout", BOOTSTRAP["GevHeartbeatTimeout"], "RW", 500, 2**31 - 1, "ms"),
            _enumeration("GevCCP", BOOTSTRAP["GevCCP"], {"OpenAccess": 0, "ExclusiveAccess": 1, "ControlAccess": 2}),
            _command("GevTimestampControlLatch", BOOTSTRAP["GevTimestampControl"], 2),
            _integer("GevTimestampValue", BOOTSTRAP["GevTimestampValue"], "RO", 0, 2**63 - 1, "ns", length=8),
            _integer(
                "GevTimestampTickFrequency",
                BOOTSTRAP["GevTimestampTickFrequency"],
                "RO",
                0,
                2**63 - 1,
                "Hz",
                length=8,
            ),
        ],
    }
    return _FRAME.format(body="\n".join([*_listed(categories), '<Port Name="Device" NameSpace="Standard"/>']))


def _listed(categories: Mapping[str, list[str]]) -> list[str]:
    """The categories, then the features that they name; a feature begins with its name."""
    nodes = [_category("Root", list(categories))]
    for category, features in categories.items():
        nodes.append(_category(category, [feature.split('"', 2)[1] for feature in features]))
    return nodes + [feature for features in categories.values() for feature in features]


def _category(name: str, members: list[str]) -> str:
    inside = "".join(f"<pFeature>{member}</pFeature>" for member in members)
    return f'<Category Name="{name}" NameSpace="Standard">{inside}</Category>'


def _register(kind: str, name: str, address: int, access: str, length: int, inside: str = "") -> str:
    """A register that the camera may change by itself: its value is never remembered by the host."""
    return (
        f'<{kind} Name="{name}"><Address>0x{address:X}</Address><Length>{length}</Length>'
        f"<AccessMode>{access}</AccessMode><pPort>Device</pPort><Cachable>NoCache</Cachable>{inside}"
        f"<Endianess>BigEndian</Endianess></{kind}>"
    )


def _string(name: str, address: int, length: int) -> str:
    return (
        f'<StringReg Name="{name}" NameSpace="Standard"><Address>0x{address:X}</Address><Length>{length}</Length>'
        "<AccessMode>RO</AccessMode><pPort>Device</pPort></StringReg>"
    )


def _integer(
    name: str, address: int, access: str, low: int, high: int, unit: str = "", *, length: int = 4, within: str = ""
) -> str:
    """An integer feature; ``within`` is XML that stands for the largest value where it is not constant."""
    units = f"<Unit>{unit}</Unit>" if unit else ""
    most = within or f"<Max>{high}</Max>"
    return (
        f'<Integer Name="{name}" NameSpace="Standard"><pValue>{name}Reg</pValue><Min>{low}</Min>{most}{units}'
        f"</Integer>" + _register("IntReg", f"{name}Reg", address, access, length, "<Sign>Unsigned</Sign>")
    )


def _extent(name: str, address: int, low: int, other: str, sensor: int) -> str:
    """Width, height, or an offset: at most what the other one of the pair leaves of the sensor."""
    return _integer(name, address, "RW", low, sensor, "px", within=f"<pMax>{name}Now</pMax>") + (
        f'<IntSwissKnife Name="{name}Now"><pVariable Name="OTHER">{other}Reg</pVariable>'
        f"<Formula>{sensor} - OTHER</Formula></IntSwissKnife>"
    )


def _masked(name: str, address: int, low: int, high: int) -> str:
    """The lower 16 bits of a register."""
    bits = "<LSB>31</LSB><MSB>16</MSB><Sign>Unsigned</Sign>"
    return (
        f'<Integer Name="{name}" NameSpace="Standard"><pValue>{name}Reg</pValue><Min>{low}</Min><Max>{high}</Max>'
        f"<Inc>4</Inc></Integer>" + _register("MaskedIntReg", f"{name}Reg", address, "RW", 4, bits)
    )


def _float(name: str, address: int, access: str, unit: str, low: float | None = None, high: float | None = None) -> str:
    bounds = "" if low is None else f"<Min>{low!r}</Min><Max>{high!r}</Max>"
    return (
        f'<Float Name="{name}" NameSpace="Standard"><pValue>{name}Reg</pValue>{bounds}<Unit>{unit}</Unit></Float>'
        + _register("FloatReg", f"{name}Reg", address, access, 8)
    )


def _enumeration(name: str, address: int, entries: Mapping[str, int], *, locked: bool = False) -> str:
    inside = "".join(
        f'<EnumEntry Name="{entry}" NameSpace="Standard"><Value>{value}</Value></EnumEntry>'
        for entry, value in entries.items()
    )
    lock = "<pIsLocked>TLParamsLocked</pIsLocked>" if locked else ""
    return (
        f'<Enumeration Name="{name}" NameSpace="Standard">{lock}{inside}<pValue>{name}Reg</pValue></Enumeration>'
        + _register("IntReg", f"{name}Reg", address, "RW", 4, "<Sign>Unsigned</Sign>")
    )


def _command(name: str, address: int, value: int = 1) -> str:
    return (
        f'<Command Name="{name}" NameSpace="Standard"><pValue>{name}Reg</pValue><CommandValue>{value}</CommandValue>'
        f"</Command>" + _register("IntReg", f"{name}Reg", address, "WO", 4, "<Sign>Unsigned</Sign>")
    )
