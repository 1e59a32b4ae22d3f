"""The station file's tables: every key with its default, its unit in its name, and its allowed range."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, model_validator

from drivers.protocols import ROLES

DAY_S = 86400.0
NAME_MAX = 64
"""Letters of the name of a bench or a device, which become parts of the names of files."""
FRAMES_MAX = 100_000
Count = Annotated[int, Field(ge=1, le=FRAMES_MAX)]
CountOrNone = Annotated[int, Field(ge=0, le=FRAMES_MAX)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
Seconds = Annotated[float, Field(gt=0, le=DAY_S)]
Repeats = Annotated[int, Field(ge=1, le=1000)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Table(BaseModel):
    """One table: unknown keys are errors, TOML's own types are required, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class About(Table):
    """``[station]``: for people."""

    name: Annotated[str, Field(max_length=200)] = "unnamed station"
    notes: Annotated[str, Field(max_length=10_000)] = ""


class BenchTable(Table):
    """``[bench]``: the name that runs, locks and control charts go by."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=NAME_MAX)] = "mock"
    mode: Literal["mock", "hardware"] = "mock"


def _known_role(role: str) -> str:
    if role not in ROLES:
        raise ValueError(f"one of {', '.join(ROLES)}")
    return role


def _device_name(name: str) -> str:
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{NAME_MAX}}}", name):
        raise ValueError(f"a device name of letters, digits, - and _, at most {NAME_MAX} of them")
    return name


class DeviceTable(Table):
    """``[devices.NAME]``: which backend opens the device, that backend's own options, and what the device is for.

    ``role`` may be left out where the name says it: ``[devices.slm]``. ``reset`` is a program with its arguments that
    resets the device where opening it again does not help: it cycles the power of a socket, say. No shell reads it.
    """

    backend: Annotated[str, Field(min_length=1)]
    options: dict[str, Any] = {}
    role: Annotated[str, AfterValidator(_known_role)]
    reset: list[Annotated[str, Field(min_length=1)]] = []
    reset_timeout_s: Seconds = 30.0

    @property
    def is_mock(self) -> bool:
        """Whether it is one of the mock bench, or a part of one (its options name the backend that it opens)."""
        named = [self.backend, *(value for value in self.options.values() if isinstance(value, str))]
        return any(name.startswith("mock.") for name in named)


DeviceName = Annotated[str, AfterValidator(_device_name)]


class Devices(RootModel[dict[DeviceName, DeviceTable]]):
    """``[devices]``: the instruments of the bench by name; a role that nothing fills is filled by the mock bench."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _mock_fills_the_rest(cls, tables: Any) -> Any:
        if not isinstance(tables, Mapping):
            return tables
        filled = [t.get("role", name) for name, t in tables.items() if isinstance(t, Mapping)]
        missing = [name for name, role in ROLES.items() if not role.many and name not in filled]
        named = {**{role: {"backend": f"mock.{role}"} for role in missing}, **tables}
        return {name: {"role": name, **t} if isinstance(t, Mapping) else t for name, t in named.items()}

    @model_validator(mode="after")
    def _each_role_is_filled_once(self) -> Self:
        for name, role in ROLES.items():
            named = self.named(name)
            if role.many or len(named) == 1:
                continue
            if named:
                raise ValueError(f"one {name}, not {len(named)} ({', '.join(named)})")
            raise ValueError(f"one {name}, not none: the device of that name has the role {self.role(name)}")
        return self

    def __getitem__(self, name: str) -> DeviceTable:
        return self.root[name]

    def role(self, name: str) -> str:
        """What the device of this name is for."""
        return self.root[name].role

    def named(self, role: str) -> list[str]:
        """Names of the devices that fill a role, in the file's order."""
        return [name for name in self.root if self.role(name) == role]

    def one(self, role: str) -> DeviceTable:
        """The device that fills a role which is filled once."""
        (name,) = self.named(role)
        return self.root[name]


class LayoutTable(Table):
    """``[layout]``: the macropixel grid on the SLM, in SLM pixels.

    A single row has no crosstalk, and a single column no bleed: what they lose is a part of their gain.
    """

    rows: Count = 128
    columns: Count = 128
    pitch_rows_px: Count = 6
    pitch_columns_px: Count = 8
    active_rows_px: Count = 4
    active_columns_px: Count = 4
    encoding: Literal["sign-split", "offset"] = "sign-split"

    @model_validator(mode="after")
    def _active_area_fits(self) -> Self:
        if self.active_rows_px > self.pitch_rows_px or self.active_columns_px > self.pitch_columns_px:
            raise ValueError("an active area no larger than the pitch, in rows and in columns")
        return self


class Acquisition(Table):
    """``[acquisition]``: how frames are taken."""

    exposure_s: Annotated[float, Field(gt=0, le=3600)] = 0.010
    slm_settle_frames: CountOrNone = 4
    display_settle_frames: CountOrNone = 2
    fetch_timeout_s: Seconds = 10.0
    stall_s: Seconds = 180.0
    reopen_attempts: Annotated[int, Field(ge=0, le=100)] = 3
    reopen_timeout_s: Seconds = 60.0
    interlock_wait_s: Annotated[float, Field(ge=0, le=DAY_S)] = 60.0
    interlock_trips_max: Annotated[int, Field(ge=0, le=1000)] = 3
    disk_floor_gb: Annotated[float, Field(ge=0, le=1e6)] = 0.5
    monitor_spacing_s: Seconds = 1.0
    drift_monitor: str = ""
    dark_frames: Annotated[int, Field(ge=2, le=10_000)] = 16
    lut_repeats: Repeats = 1
    gain_repeats: Repeats = 1
    crosstalk_repeats: Repeats = 6
    coupling_repeats: Repeats = 1
    noise_repeats: Annotated[int, Field(ge=2, le=1000)] = 16
    holdout_frames: Count = 64
    segment_frames: Count = 64
    play_lists: bool = True
    reference_spacing_frames: CountOrNone = 30


class CameraTable(Table):
    """``[camera]``: facts of the data sheet that no measurement here gives."""

    quantum_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.6


class SourceTable(Table):
    """``[source]``: facts of the light source."""

    wavelength_nm: Annotated[float, Field(ge=100, le=20_000)] = 525.0


class Limits(Table):
    """``[limits]``: the bench is in spec when every metric lies within."""

    chi2_per_dof_min: Positive = 0.9
    chi2_per_dof_max: Positive = 1.1
    coverage95_min: Fraction = 0.93
    coverage95_max: Fraction = 0.97
    nrmse_max: Positive = 0.05
    settled_residue_max: Annotated[float, Field(gt=0, lt=1)] = 0.002
    registration_residual_px_max: Positive = 0.3
    probe_chi2_per_dof_max: Positive = 1.5
    saturated_fraction_max: Fraction = 0.0
    gain_jump_max: Positive = 0.05
    reference_misfit_max: Positive = 3.0
    canary_knock_max: Positive = 3.0

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> Self:
        if self.chi2_per_dof_min >= self.chi2_per_dof_max or self.coverage95_min >= self.coverage95_max:
            raise ValueError("each _min below its _max")
        return self


class CalibrationTable(Table):
    """``[calibration]``: how long a calibration may be used."""

    valid_hours: Annotated[float, Field(gt=0, le=87_600)] = 24.0


class Nightly(Table):
    """``[nightly]``: what happens when nobody watches, and who hears of it.

    ``workload``: the held-out products of every night, beside the station file if the path is relative; empty for the
    shipped model's. ``budget_h``: after so many hours a night starts nothing more. ``notify`` is a program with its
    arguments, which no shell reads; it gets the message on its standard input. ``webhook_env`` and ``ping_env`` name
    environment variables that hold addresses: secrets stand in no file. ``metrics_folder`` is where a Prometheus
    collector looks for text files; empty for none. With ``remove_raw_data`` retention
    (`labctl run gc --delete`) follows every night.
    """

    workload: str = ""
    budget_h: Annotated[float, Field(gt=0, le=168)] = 6.0
    strict: bool = False
    notify: list[Annotated[str, Field(min_length=1)]] = []
    webhook_env: str = ""
    ping_env: str = ""
    metrics_folder: str = ""
    keep_nights: Annotated[int, Field(ge=1, le=36_500)] = 30
    remove_raw_data: bool = False


class Station(Table):
    """A station: one bench, its devices, and how it is used.

    Every table has defaults; `load_station` reads them from a file.

    Examples
    --------
    >>> import labctl
    >>> station = labctl.Station(mock={})
    >>> station.layout.rows, station.bench.mode
    (128, 'mock')
    """

    station: About = About()
    bench: BenchTable = BenchTable()
    devices: Devices = Field(default_factory=lambda: Devices.model_validate({}))
    layout: LayoutTable = LayoutTable()
    acquisition: Acquisition = Acquisition()
    camera: CameraTable = CameraTable()
    source: SourceTable = SourceTable()
    limits: Limits = Limits()
    calibration: CalibrationTable = CalibrationTable()
    nightly: Nightly = Nightly()
    mock: dict[str, Any] = {}

    @model_validator(mode="after")
    def _reset_is_no_stall(self) -> Self:
        limit_s = self.acquisition.stall_s
        for name, device in self.devices.root.items():
            if device.reset and device.reset_timeout_s >= limit_s:
                raise ValueError(
                    f"devices.{name}.reset_timeout_s below acquisition.stall_s ({limit_s:g} s): "
                    f"a reset of {device.reset_timeout_s:g} s would count as a stall"
                )
        return self

    @model_validator(mode="after")
    def _drift_monitor_is_a_monitor(self) -> Self:
        monitors, asked = self.devices.named("monitor"), self.acquisition.drift_monitor
        if asked and asked not in monitors:
            named = ", ".join(monitors) or "there is none"
            raise ValueError(f"acquisition.drift_monitor is the name of a monitor ({named}), not {asked!r}")
        return self

    @model_validator(mode="after")
    def _mock_readings_are_not_called_hardware(self) -> Self:
        mocks = [name for name, device in self.devices.root.items() if device.is_mock]
        if self.bench.mode == "hardware" and mocks:
            raise ValueError(
                'bench.mode = "mock" while a device is one of the mock bench (here: ' + ", ".join(mocks) + ")"
            )
        return self
