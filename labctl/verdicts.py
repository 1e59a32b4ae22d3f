"""The closed list of outcomes: every command and every run ends in one of these."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from labctl.errors import UsageError


class Verdict(StrEnum):
    """How a run ended."""

    OK = "ok"
    ERROR = "error"
    USAGE = "usage"
    OUT_OF_SPEC = "out_of_spec"
    DRIFT = "drift"
    FAULT = "fault"
    INTERLOCK = "interlock"
    STORAGE = "storage"
    PARTIAL = "partial"
    BUSY = "busy"
    ABORTED = "aborted"
    CRASHED = "crashed"


@dataclass(frozen=True)
class VerdictRow:
    """One row of the table: the verdict, its exit codes (the usual one first), its meaning, and whom to wake."""

    verdict: Verdict
    exit_codes: tuple[int, ...]
    meaning: str
    page: str


VERDICTS = (
    VerdictRow(Verdict.OK, (0,), "complete and in spec", "no"),
    VerdictRow(Verdict.ERROR, (1,), "a bug: unexpected exception", "yes, the developer"),
    VerdictRow(
        Verdict.USAGE, (2,), "bad arguments, configuration or input file; nothing was touched", "yes if from cron"
    ),
    VerdictRow(Verdict.OUT_OF_SPEC, (10,), "valid measurement, the bench fails its limits", "yes, the operator"),
    VerdictRow(Verdict.DRIFT, (11,), "in spec, but a control chart fired (with --strict)", "in the digest"),
    VerdictRow(
        Verdict.FAULT,
        (20,),
        "device lost, time-out after retries, stall, or data that no fit may use",
        "yes, the operator",
    ),
    VerdictRow(Verdict.INTERLOCK, (21,), "refused or stopped for safety", "yes, now"),
    VerdictRow(Verdict.STORAGE, (22,), "disk full, not writable, or verification failed", "yes"),
    VerdictRow(Verdict.PARTIAL, (30,), "time budget used up; resumable", "in the digest"),
    VerdictRow(
        Verdict.BUSY,
        (75,),
        "the bench, or an output, is held by another process; try later",
        "only on the second night",
    ),
    VerdictRow(Verdict.ABORTED, (130, 143), "stopped by Ctrl-C (130) or by SIGTERM (143); sealed and safe", "no"),
    VerdictRow(Verdict.CRASHED, (), "no seal found: assigned by whoever looks at the run next", "yes"),
)

COMPLETE = frozenset({Verdict.OK, Verdict.OUT_OF_SPEC, Verdict.DRIFT})
"""Verdicts of runs that measured everything they planned: there is nothing to resume."""


def exit_codes(verdict: Verdict) -> tuple[int, ...]:
    """Exit codes of a verdict, the usual one first; empty for ``crashed``, which no process can report of itself."""
    return next(row.exit_codes for row in VERDICTS if row.verdict is verdict)


def verdict_of(exit_code: int) -> Verdict:
    """The verdict that an exit code stands for; ``error`` for a code outside the list."""
    return next((row.verdict for row in VERDICTS if exit_code in row.exit_codes), Verdict.ERROR)


def explain_exit(exit_code: int) -> VerdictRow:
    """The row of an exit code.

    Raises
    ------
    UsageError
        When labctl never exits with that code.
    """
    for row in VERDICTS:
        if exit_code in row.exit_codes:
            return row
    known = ", ".join(str(code) for row in VERDICTS for code in row.exit_codes)
    raise UsageError(f"labctl has no exit code {exit_code}", expected=f"one of {known}", seen=str(exit_code))
