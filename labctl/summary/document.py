"""The document itself, from its first error to its exit code."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticSerializationError

from groundwork.errors import CodedError
from groundwork.opening.json_text import parse_json
from groundwork.opening.regular import MOST_TEXT_BYTES, read_regular
from labctl.clock import utc_now
from labctl.errors import RunDamaged
from labctl.summary.fitted import BadFrame, CalibrationRef, Choice, Validation
from labctl.summary.metrics import Metric, Node
from labctl.summary.parts import Number, Part
from labctl.summary.simulated import Simulation
from labctl.verdicts import COMPLETE, Verdict, exit_codes, verdict_of

SCHEMA = "labctl.summary/1"


class Counts(Part):
    """Products: planned, recorded, discarded (bad frames), retried. One product is one matrix–vector product."""

    planned: int = 0
    recorded: int = 0
    discarded: int = 0
    retried: int = 0


class ChartState(Part):
    """Where the control chart of one metric stands after this night.

    ``z`` is the distance of the moving average from the centre in its own standard deviations; the alarm is at
    ``limit``. While a chart learns, it has neither.
    """

    metric: str
    unit: str = ""
    value: Number = None
    state: Literal["learning", "in_control", "alarm", "acknowledged"]
    nights: int = 0
    centre: Number = None
    sigma: Number = None
    z: Number = None
    limit: float | None = None
    phase_since: str | None = None


class Budget(Part):
    """The time that the command was given, and what it used of it [s]."""

    given_s: float
    used_s: Number = None


class DeviceEvent(Part):
    """Something that befell a device and did not end the run: it was opened again, an interlock was waited for."""

    at: datetime | None = None
    device: str
    event: str
    words: str = ""


class Artifact(Part):
    """A file that the run or command made."""

    path: str
    sha256: str | None = None
    bytes: int | None = None


class FirstError(Part):
    """The first error, as it was shown."""

    code: str
    message: str
    device: str = ""
    action: str = ""
    expected: str = ""
    seen: str = ""
    safe: str = ""
    hint: str = ""

    @classmethod
    def of(cls, error: BaseException) -> FirstError:
        """From any exception; one without a code gets ``E-LAB-001``."""
        if isinstance(error, CodedError):
            names = ("code", "device", "action", "expected", "seen", "safe", "hint")
            return cls(message=error.what, **{name: getattr(error, name) for name in names})
        return cls(code="E-LAB-001", message=f"{type(error).__name__}: {error}")


class Summary(Part):
    """The document; optional parts are null until the run has reached them.

    ``exit_code`` follows from ``verdict`` unless given; it must be one of the verdict's codes.
    """

    schema_: Literal["labctl.summary/1"] = Field(default="labctl.summary/1", alias="schema")
    run_id: str | None = None
    bench: str | None = None
    mode: Literal["hardware", "mock", "replay"] | None = None
    verdict: Verdict
    exit_code: int | None = None
    started: datetime | None = None
    finished: datetime | None = None
    counts: Counts = Field(default_factory=Counts)
    nodes: list[Node] = []
    metrics: list[Metric] = []
    structure: dict[str, Choice] = {}
    validation: Validation | None = None
    bad_frames: list[BadFrame] = []
    calibration: CalibrationRef | None = None
    simulation: Simulation | None = None
    drift: list[ChartState] = []
    budget: Budget | None = None
    device_events: list[DeviceEvent] = []
    artifacts: list[Artifact] = []
    first_error: FirstError | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_exit_code(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("exit_code") is None and "verdict" in values:
            codes = exit_codes(Verdict(values["verdict"]))
            return values | {"exit_code": codes[0] if codes else None}
        return values

    @model_validator(mode="after")
    def _exit_code_fits(self) -> Self:
        codes = exit_codes(self.verdict)
        if (self.exit_code is None and codes) or (self.exit_code is not None and self.exit_code not in codes):
            raise ValueError(f"exit code {self.exit_code} is not one of the verdict {self.verdict}: {codes}")
        return self

    @model_validator(mode="after")
    def _no_verdict_on_the_bench_after_a_fault(self) -> Self:
        failed = [node.name for node in self.nodes if node.state == "failed"]
        if self.verdict in COMPLETE and failed:
            raise ValueError(f"{self.verdict} says something of the bench, but {', '.join(failed)} failed")
        if self.verdict in (Verdict.OK, Verdict.DRIFT) and self.first_error is not None:
            raise ValueError(f"{self.verdict} cannot follow the error {self.first_error.code}")
        return self

    @property
    def duration_s(self) -> float | None:
        """From start to end [s]; None where one of them is not known."""
        if self.started is None or self.finished is None:
            return None
        return (self.finished - self.started).total_seconds()

    def concluded(self, verdict: Verdict, exit_code: int | None = None, **changes: Any) -> Summary:
        """A copy that ends in ``verdict``, with any other field changed: ``finished=…``, ``first_error=…``."""
        values = self.model_dump(by_alias=True) | changes | {"verdict": verdict, "exit_code": exit_code}
        return Summary.model_validate(values)

    def to_json(self) -> str:
        """The document as it is written to ``summary.json``."""
        try:
            return self.model_dump_json(by_alias=True, indent=2) + "\n"
        except PydanticSerializationError:  # a name of a file that is no text in any encoding: escapes
            return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, allow_nan=False) + "\n"


def failure(error: BaseException, exit_code: int, reached: Summary | None = None) -> Summary:
    """The summary of a command that ended in ``error``, with whatever it had ``reached``."""
    verdict = verdict_of(exit_code)
    base = reached or Summary(verdict=verdict, exit_code=exit_code)
    return base.concluded(verdict, exit_code, finished=utc_now(), first_error=base.first_error or FirstError.of(error))


def read_summary(path: Path) -> Summary:
    """Read a ``summary.json``.

    Raises
    ------
    RunDamaged
        When it does not follow the schema.
    """
    try:
        raw = read_regular(path, MOST_TEXT_BYTES)
        if b"\\ud" in raw:  # half of a character, as a name of a file may hold
            return Summary.model_validate(parse_json(raw, path))
        return Summary.model_validate_json(raw)
    except (OSError, ValueError) as error:
        raise RunDamaged("the summary cannot be read", device=str(path), expected=SCHEMA, seen=str(error)) from error


def json_schema() -> str:
    """JSON Schema of the document, as it lies in ``data/schemas/summary-1.schema.json``."""
    schema = Summary.model_json_schema(mode="serialization", by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
