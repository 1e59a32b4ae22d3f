"""``summary.json``: what a run, or a command, found; schema ``labctl.summary/1``."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticSerializationError

from groundwork.errors import CodedError
from groundwork.opening.json_text import parse_json
from groundwork.opening.regular import MOST_TEXT_BYTES, read_regular
from labctl.clock import utc_now
from labctl.errors import RunDamaged
from labctl.verdicts import COMPLETE, Verdict, exit_codes, verdict_of

if TYPE_CHECKING:
    import calibration.statistics.bad_frame
    import calibration.statistics.choice

SCHEMA = "labctl.summary/1"
PLAIN_BELOW = 1e6
"""Numbers below are written out."""
NOUGHT = 1e-3
"""A figure below this part of its standard error is shown as 0."""


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A measured number; null when it is not finite, as JSON has no NaN."""


class Part(BaseModel):
    """Every part refuses keys that are not in the schema."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Counts(Part):
    """Products: planned, recorded, discarded (bad frames), retried. One product is one matrix–vector product."""

    planned: int = 0
    recorded: int = 0
    discarded: int = 0
    retried: int = 0


class Limit(Part):
    """The range that is in spec; null means open."""

    min: float | None = None
    max: float | None = None

    def __str__(self) -> str:
        if self.min is not None and self.max is not None:
            return f"{self.min:g}–{self.max:g}"
        return f"≥ {self.min:g}" if self.min is not None else f"≤ {self.max:g}" if self.max is not None else ""


class Metric(Part):
    """One number with its unit, standard error and limit; ``info`` when no limit applies.

    ``words`` say what it means, and what to do, where it is out of spec, or unusual and no fault.
    """

    name: str
    value: Number
    unit: str = ""
    stderr: Number = None
    limit: Limit | None = None
    verdict: Literal["ok", "out_of_spec", "info"] = "info"
    words: str = ""

    @property
    def figure(self) -> str:
        """``"4.054 ± 0.14 DN/e-"``."""
        return " ".join(part for part in self.parts if part)

    @property
    def parts(self) -> tuple[str, str, str]:
        """``("4.054", "± 0.14", "DN/e-")``; a figure far below its own error is nought, and a number has no unit."""
        value, unit = self.value, "" if self.unit == "1" else self.unit
        if value is None:
            return "not a number", "", ""
        is_nought = bool(self.stderr) and abs(value) < NOUGHT * (self.stderr or 0.0)
        is_plain = abs(value) < PLAIN_BELOW
        error = f"± {rounded(self.stderr, 2) if is_plain else f'{self.stderr:.2g}'}" if self.stderr else ""
        return rounded(0.0 if is_nought else value, 4), error, unit

    @classmethod
    def judge(
        cls,
        name: str,
        value: float,
        unit: str = "",
        *,
        stderr: float | None = None,
        minimum: float | None = None,
        maximum: float | None = None,
        words: str = "",
    ) -> Metric:
        """A metric with its verdict: out of spec outside ``minimum … maximum``, and when it is not a number.

        ``words`` are kept only then.
        """
        if minimum is None and maximum is None:
            return cls(name=name, value=value, unit=unit, stderr=stderr)
        low = -math.inf if minimum is None else minimum
        high = math.inf if maximum is None else maximum
        verdict: Literal["ok", "out_of_spec"] = "ok" if low <= value <= high and math.isfinite(value) else "out_of_spec"
        limit = Limit(min=minimum, max=maximum)
        kept = words if verdict == "out_of_spec" else ""
        return cls(name=name, value=value, unit=unit, stderr=stderr, limit=limit, verdict=verdict, words=kept)


class Node(Part):
    """One node of the calibration graph in this run; ``at``: when it was done with."""

    name: str
    state: Literal["done", "kept", "checked", "applied", "not_applied", "skipped", "failed"]
    check: Literal["in_spec", "out_of_spec", "bad_data"] | None = None
    reason: str = ""
    duration_s: Number = None
    at: datetime | None = None
    metrics: list[Metric] = []


def reasons_out_of_spec(nodes: Sequence[Node]) -> list[str]:
    """``node: reason`` for each node that is out of spec; empty when all are in spec."""
    return [f"{node.name}: {node.reason}" for node in nodes if node.check == "out_of_spec"]


def rounded(value: float, digits: int) -> str:
    """So many digits that count, without a power of ten below a million: ``rounded(12_374.0, 4) == "12370"``."""
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text and abs(value) < PLAIN_BELOW else text


def with_error(value: float | None, stderr: float | None) -> str:
    """To the second digit of the error: ``"104.98 ± 0.21"``."""
    if value is None or not stderr or not math.isfinite(stderr):
        return number(value, ".5g")
    digits = 1 - math.floor(math.log10(stderr))
    if digits > 8 or digits < -3:
        return f"{value:.6g} ± {stderr:.2g}"
    return f"{value:.{max(digits, 0)}f} ± {stderr:.{max(digits, 0)}f}"


def number(value: float | None, form: str) -> str:
    """A figure for a person, a dash where it is missing or was not finite."""
    return "–" if value is None else format(value, form)


class Choice(Part):
    """Which form of gain, crosstalk or noise the data ask for: the test against the runner-up, and why in words."""

    chosen: str
    statistic: str
    value: Number
    p_value: Number
    runner_up: str
    reason: str

    @classmethod
    def of(cls, choice: calibration.statistics.choice.Choice) -> Choice:
        """A choice of the calibration, as documents list it."""
        return cls(**dataclasses.asdict(choice))


class Validation(Part):
    """The held-out Transformer products against the model's prediction."""

    products: int
    nrmse: Number
    r2: Number
    effective_bits: Number
    chi2_per_dof: Number
    coverage95: Number
    bad_frames: list[int] = []
    bad_frame_reasons: list[str] = []


class BadFrame(Part):
    """A frame that was not what was asked for: index in its scan (``products`` or a probe's), and what it was."""

    scan: str
    index: int
    reason: str
    chi2_per_dof: Number = None
    evidence: str = ""

    @classmethod
    def of(cls, scan: str, found: calibration.statistics.bad_frame.BadFrame) -> BadFrame:
        """A frame that an analysis left out of a scan."""
        about = {name: getattr(found, name) for name in ("index", "reason", "chi2_per_dof", "evidence")}
        return cls(scan=scan, **about)


class Compared(Part):
    """The new calibration and the one before, on held-out products and probe frames.

    ``difference`` is −2 log likelihood per reading, before − new: positive where the new one predicts better.
    """

    id: str | None
    chi2_per_dof: Number
    chi2_per_dof_before: Number
    difference: Number
    stderr: Number
    products: int


class CalibrationRef(Part):
    """The exported calibration: where it lies in the store, and whether the bench uses it from now on."""

    id: str
    path: str
    parent: str | None = None
    valid_until: datetime | None = None
    applied: bool | None = None
    why: str = ""
    compared: Compared | None = None


class Perplexity(Part):
    """Of the same text: the model as it is, with 8-bit operands, and in light.

    Standard errors are those of reading a finite text: they tell how another text of the same kind and length would
    differ. Noise of another seed is not in them.
    """

    digital: Number
    int8: Number = None
    optical: Number = None
    digital_stderr: Number = None
    int8_stderr: Number = None
    optical_stderr: Number = None


class LightLevel(Part):
    """Perplexity in light at one photon budget."""

    photons_per_mac: float
    perplexity: Number
    stderr: Number = None


class DigitalShare(Part):
    """Multiply–accumulates that stay digital for one reason, as a part of all that the model does."""

    why: str
    share: float


class LightUsed(Part):
    """What a bench took for each multiply–accumulate of the model in light.

    Photons are counted at the weight plane, per MAC and pass; electrons per MAC, all passes together. ``frames``,
    ``input_conversions`` (DAC) and ``output_conversions`` (ADC) are per MAC of the model, and so are the ``scales``
    of tiles that were moved beside the readings.
    """

    photons_per_mac: Number = None
    electrons_per_mac: Number = None
    frames: Number = None
    input_conversions: Number = None
    output_conversions: Number = None
    scales: Number = None


class LightOfProduct(Part):
    """Photons at the weight plane per MAC and pass that one product got; ``kind`` is ffn, qkvo, qk or av."""

    name: str
    kind: str
    photons_per_mac: float


class LightScore(Part):
    """What one way to share out light gave: Kullback–Leibler divergence from the digital model, and perplexity.

    ``photons_per_mac`` is what was really shown, in the mean over all passes; ``kl`` is in nats per token.
    """

    photons_per_mac: Number
    kl: Number
    kl_stderr: Number
    perplexity: Number
    perplexity_stderr: Number


class LightBudget(Part):
    """The same total of light, equal for all products and shared out by what each of them needs.

    ``products`` are in the order in which they run. ``predicted`` is how many times less divergence, or at the same
    divergence less light, the second order of the noise expects of sharing out; ``tokens`` were read to find it.
    """

    photons_per_mac: float
    products: list[LightOfProduct]
    uniform: LightScore
    shared_out: LightScore
    predicted: Number
    tokens: int


class Simulation(Part):
    """The whole Transformer on the calibrated bench; ``in_light`` is the part of its multiply–accumulates there.

    ``uncounted`` names products whose multiply–accumulates nobody can tell, and which are in no share; ``by_elements``
    is how many multiplications there are, for each multiply–accumulate, that are summed with no other; ``batch`` says
    how rows of a batch change each other's answer, ``remarks`` what else a reader has to know. ``clip`` is the
    percentile that full scale stands for, of weights and of attention's second operands; ``context`` the longest window
    [tokens]; ``version`` that of labctl. ``not_measured`` says of an imported bench what is taken and nobody measured,
    ``drawn`` its perplexity on one of the benches that its fit could have come from; ``encoding`` how signs became
    light, ``bits`` those of inputs, weights and outputs in light, where they were stated. ``budget`` compares equal
    light for all products with light that is shared out.
    """

    model: str
    text: str
    tokens: int
    perplexity: Perplexity
    photons_per_mac: Number
    levels: list[LightLevel] = []
    in_light: Number = None
    digital: list[DigitalShare] = []
    uncounted: list[str] = []
    by_elements: Number = None
    batch: str = ""
    remarks: list[str] = []
    seed: int | None = None
    clip: list[float] | None = None
    context: int | None = None
    version: str = ""
    encoding: str = ""
    not_measured: list[str] = []
    drawn: Number = None
    light_used: LightUsed | None = None
    bits: list[int] | None = None
    budget: LightBudget | None = None


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
