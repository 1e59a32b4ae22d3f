"""The documents that ``import``, ``fit`` and ``predict`` print with ``--json``; schemas in ``data/schemas/``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from labctl.foreign.files.values import NOT_FINITE
from labctl.summary import Choice, Number, Part

if TYPE_CHECKING:
    from calibration.statistics.bad_frame import BadFrame
    from labctl.foreign.files.operands import InFile


class Source(Part):
    """A file of somebody's measurement; ``format`` is npz, hdf5, csv, or what a reader of more kinds is called."""

    name: str
    format: str
    sha256: str
    bytes: int


class RowsRead(Part):
    """Which rows of a file were read: half-open, counted from 0 in the file as given."""

    start: int
    stop: int
    in_file: int


class BadRow(Part):
    """A row that cannot be what it says: its place in the file as given, and why.

    ``z``: its residual in units of the predicted standard deviation; null for a row without one.
    """

    index: int
    reason: str
    z: Number

    @classmethod
    def of(cls, found: BadFrame, place: InFile) -> BadRow:
        """A row that a fit or a prediction left out, by its place in the file as given."""
        return cls(index=place.row(found.index), reason=place.words(found.in_words), z=found.z)

    @classmethod
    def not_finite(cls, row: int) -> BadRow:
        """One whose inputs or readings hold NaN or infinity."""
        return cls(index=int(row), reason=NOT_FINITE, z=None)


class Imported(Part):
    """What ``labctl import --json`` prints; ``bad_rows`` are kept in the run and left out of the fit."""

    schema_: Literal["labctl.import/1"] = Field(default="labctl.import/1", alias="schema")
    run_id: str
    path: str
    bench: str
    mode: Literal["replay"] = "replay"
    source: Source
    rows: RowsRead
    inputs: int
    outputs: int
    unit: str
    time_span_s: tuple[float, float] | None
    bad_rows: list[BadRow]
    names: dict[str, str]
    notes: list[str]


class NoiseLaw(Part):
    """``var = scale · (read² + shot · μ + (intensity · μ)²)`` with μ the light of an output, in ``unit``.

    ``common_gain`` and ``common_offset`` are what all outputs of a row share; ``stderr`` is by name.
    """

    law: str
    read: Number
    shot: Number
    intensity: Number
    scale: list[Number]
    common_gain: Number
    common_offset: Number
    stderr: dict[str, Number]
    unit: str


class OutputFitted(Part):
    """One output as ``reading = offset + gain · Σ w x``, at the end of the file; gain in ``unit`` per unit of Σ w x."""

    output: int
    gain: Number
    gain_stderr: Number
    offset: Number
    offset_stderr: Number


class HeldOut(Part):
    """Each eighth of the rows by a fit of the others, per output: this fit, a line, the calibration before."""

    rows: int
    rms_percent_of_range: list[Number]
    line_rms_percent_of_range: list[Number]
    parent_rms_percent_of_range: list[Number] | None
    coverage95: list[Number]
    chi2_per_dof: Number


class Gate(Part):
    """Whether the calibration is applied, and because of what."""

    applied: bool
    reason: str


class FittedCalibration(Part):
    """The artefact: written in any case, applied to the bench by the gate only."""

    id: str
    path: str
    parent: str | None


class Fitted(Part):
    """What ``labctl fit --json`` prints for an import; ``determined`` says how much of the gain the data determine.

    ``outputs_fitted``: gain and offset of each output. ``notes``: what was left out or mended besides single rows.
    """

    schema_: Literal["labctl.fit/1"] = Field(default="labctl.fit/1", alias="schema")
    run_id: str
    bench: str
    rows: int
    inputs: int
    outputs: int
    unit: str
    calibration: FittedCalibration
    outputs_fitted: list[OutputFitted] = Field(default_factory=list)
    structure: dict[str, Choice]
    noise: NoiseLaw
    bad_rows: list[BadRow]
    heldout: HeldOut
    gate: Gate
    determined: str
    notes: list[str]
    report: str


class OutputPredicted(Part):
    """One output: error against its own range, with the drift followed and with the calibration frozen."""

    output: int
    rms_percent_of_range: Number
    rms_percent_of_range_frozen: Number
    coverage95: Number
    range: Number


class Jump(Part):
    """A step of gain [%] and offset [unit]: the first row after it, in the file as given."""

    row: int
    gain_percent: Number
    gain_percent_stderr: Number
    offset: Number
    offset_stderr: Number


class Drift(Part):
    """What the bench did since the calibration, in words and as the course of gain and offset.

    ``at`` is in seconds or, where the file has no times (``clock``: rows), in rows of the file as given.
    """

    model: str
    words: str
    clock: Literal["s", "rows"]
    unit: str
    at: list[Number]
    gain_percent: list[Number]
    gain_percent_stderr: list[Number]
    offset: list[Number]
    offset_stderr: list[Number]
    jumps: list[Jump]


class OutsideGroup(Part):
    """Rows that are outside for one reason; ``first`` counts in the file as given, inputs and outputs from 0."""

    reason: Literal["range", "input", "light", "combination", "curve"]
    rows: int
    first: int
    inputs: list[int]
    outputs: list[int]
    words: str


class Outside(Part):
    """Rows beyond what the rows of the fit showed; ``rows`` is null where the calibration does not hold what it was."""

    rows: int | None
    words: str
    reasons: list[OutsideGroup]


class Predicted(Part):
    """What ``labctl predict --json`` prints; a row is counted from 0 in the file as given."""

    schema_: Literal["labctl.predict/1"] = Field(default="labctl.predict/1", alias="schema")
    calibration: str
    bench: str
    source: Source
    rows: RowsRead
    unit: str
    readings: bool
    outputs: list[OutputPredicted]
    rms_percent_of_range: list[Number]
    rms_percent_of_range_frozen: list[Number]
    coverage95: list[Number]
    chi2_per_dof: Number
    bad_rows: list[BadRow]
    drift: Drift | None
    outside: Outside
    predictions: str | None
    notes: list[str]


def json_schema(model: type[Part]) -> str:
    """JSON Schema of one of the documents, as it lies in ``data/schemas/``."""
    identity = model.model_fields["schema_"].default
    schema = model.model_json_schema(mode="serialization", by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": identity, **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
