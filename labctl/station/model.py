"""The station file's tables: every key with its default, its unit in its name, and its allowed range."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Table(BaseModel):
    """One table: unknown keys are errors, TOML's own types are required, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class About(Table):
    """``[station]``: for people."""

    name: str = "unnamed station"
    notes: str = ""


class BenchTable(Table):
    """``[bench]``: the name that runs, locks and control charts go by."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "mock"
    mode: Literal["mock", "hardware"] = "mock"


class DeviceTable(Table):
    """``[devices.NAME]``: which backend opens the device, and that backend's own options."""

    backend: Annotated[str, Field(min_length=1)]
    options: dict[str, Any] = {}


class Devices(Table):
    """``[devices]``: the instruments of the bench."""

    display: DeviceTable = DeviceTable(backend="mock.display")
    slm: DeviceTable = DeviceTable(backend="mock.slm")
    camera: DeviceTable = DeviceTable(backend="mock.camera")
    source: DeviceTable = DeviceTable(backend="mock.source")


class LayoutTable(Table):
    """``[layout]``: the macropixel grid on the SLM, in SLM pixels."""

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

    exposure_s: Positive = 0.010
    slm_settle_frames: Annotated[int, Field(ge=0)] = 4
    display_settle_frames: Annotated[int, Field(ge=0)] = 2
    fetch_timeout_s: Positive = 10.0
    stall_s: Positive = 180.0
    dark_frames: Annotated[int, Field(ge=2)] = 16
    lut_repeats: Count = 1
    gain_repeats: Count = 1
    crosstalk_repeats: Count = 6
    coupling_repeats: Count = 1
    noise_repeats: Annotated[int, Field(ge=2)] = 16
    holdout_frames: Count = 64
    segment_frames: Count = 64
    reference_spacing_frames: Annotated[int, Field(ge=0)] = 30


class CameraTable(Table):
    """``[camera]``: facts of the data sheet that no measurement here gives."""

    quantum_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.6


class SourceTable(Table):
    """``[source]``: facts of the light source."""

    wavelength_nm: Positive = 525.0


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

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> Self:
        if self.chi2_per_dof_min >= self.chi2_per_dof_max or self.coverage95_min >= self.coverage95_max:
            raise ValueError("each _min below its _max")
        return self


class CalibrationTable(Table):
    """``[calibration]``: how long a calibration may be used."""

    valid_hours: Positive = 24.0


class Station(Table):
    """A station: one bench, its devices, and how it is used.

    Every table has defaults; `load_station` reads them from a file.

    Examples
    --------
    >>> import labctl
    >>> station = labctl.Station(mock={})
    >>> station.layout.rows, station.devices.camera.backend
    (128, 'mock.camera')
    """

    station: About = About()
    bench: BenchTable = BenchTable()
    devices: Devices = Devices()
    layout: LayoutTable = LayoutTable()
    acquisition: Acquisition = Acquisition()
    camera: CameraTable = CameraTable()
    source: SourceTable = SourceTable()
    limits: Limits = Limits()
    calibration: CalibrationTable = CalibrationTable()
    mock: dict[str, Any] = {}

    @model_validator(mode="after")
    def _mock_readings_are_not_called_hardware(self) -> Self:
        mocks = [name for name, device in self.devices if device.backend.startswith("mock.")]
        if self.bench.mode == "hardware" and mocks:
            raise ValueError(
                'bench.mode = "mock" while a device is one of the mock bench (here: ' + ", ".join(mocks) + ")"
            )
        return self
