"""What became of each node of a run, in order."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from calibration.errors import CalibrationError
from labctl.clock import JUMP_S, utc_now
from labctl.errors import BudgetSpent
from labctl.summary import Metric, Node, number, reasons_out_of_spec
from labctl.verdicts import Verdict

Announce = Callable[[Node], None]


def unannounced(node: Node) -> None:
    """Nobody is told."""


class Ledger:
    """The nodes that a run has passed, in order.

    Parameters
    ----------
    announce
        Called with each of them.

    Attributes
    ----------
    done
        As the summary lists them.
    """

    def __init__(self, announce: Announce = unannounced) -> None:
        self.done: list[Node] = []
        self._done_s: list[float] = []
        self._announce = announce

    @contextmanager
    def node(self, name: str, started_s: float | None = None) -> Iterator[list[Metric]]:
        """Time a node; the metrics put into the list are its result, an exception its failure.

        Parameters
        ----------
        started_s
            When the node began, by the monotonic clock, where that was before this block [s].
        """
        started_s, metrics = time.monotonic() if started_s is None else started_s, list[Metric]()
        with self.failing(name, started_s):
            yield metrics
        self._add(
            Node(
                name=name,
                state="done",
                check=spec_of(metrics),
                reason="; ".join(misses(metrics)),
                duration_s=_since(started_s),
                metrics=metrics,
            )
        )

    @contextmanager
    def failing(self, name: str, started_s: float) -> Iterator[None]:
        """List a node as failed where the block raises; one that the time did not suffice for as skipped."""
        try:
            yield
        except BudgetSpent:
            self.skip(name, "not begun, or not to its end: there is not enough time")
            raise
        except Exception as error:
            # a device, a disk or an interlock that stops a node says nothing of readings, which then there are none of
            check: Literal["bad_data"] | None = "bad_data" if isinstance(error, CalibrationError) else None
            reason = str(getattr(error, "what", error))
            self._add(Node(name=name, state="failed", check=check, reason=reason, duration_s=_since(started_s)))
            raise

    def keep(self, name: str, reason: str, metrics: list[Metric]) -> None:
        """List a node whose earlier result still holds, which run it is from, and its figures."""
        self._add(Node(name=name, state="kept", reason=reason, metrics=metrics))

    def check(self, name: str, reason: str, metrics: list[Metric]) -> None:
        """List a node whose earlier result a quick check has confirmed."""
        self._add(Node(name=name, state="checked", check=spec_of(metrics), reason=reason, metrics=metrics))

    def skip(self, name: str, reason: str) -> None:
        """List a node that did not run, and why."""
        self._add(Node(name=name, state="skipped", reason=reason))

    def decide(self, name: str, applied: bool, why: str) -> None:
        """List a node that decides: applied or not, and why."""
        self._add(Node(name=name, state="applied" if applied else "not_applied", reason=why))

    def dated(self) -> list[Node]:
        """The nodes by the clock of now: one from before the clock was set is dated as if it had been right then."""
        now, now_s = utc_now(), time.monotonic()
        meant = [now - dt.timedelta(seconds=now_s - done_s) for done_s in self._done_s]
        return [
            node.model_copy(update={"at": at}) if node.at and abs((node.at - at).total_seconds()) > JUMP_S else node
            for node, at in zip(self.done, meant, strict=True)
        ]

    @property
    def metrics(self) -> list[Metric]:
        """Of all nodes."""
        return [metric for node in self.done for metric in node.metrics]

    def verdict(self) -> Verdict:
        """What a run that has come to its end says of the bench.

        Raises
        ------
        RuntimeError
            When a node has failed: its error ends the run, and says in which verdict.
        """
        if failed := [node.name for node in self.done if node.state == "failed"]:
            raise RuntimeError(f"a run in which {', '.join(failed)} failed says nothing of the bench")
        return Verdict.OUT_OF_SPEC if self.out_of_spec else Verdict.OK

    @property
    def out_of_spec(self) -> list[str]:
        """Reasons, empty when no node is out of spec."""
        return reasons_out_of_spec(self.done)

    def _add(self, node: Node) -> None:
        node = node.model_copy(update={"at": utc_now()})
        self.done.append(node)
        self._done_s.append(time.monotonic())
        self._announce(node)


def spec_of(metrics: Sequence[Metric]) -> Literal["in_spec", "out_of_spec"] | None:
    """What the limits of a node say of it; None where it has none, and so is in no spec."""
    if misses(metrics):
        return "out_of_spec"
    return "in_spec" if any(metric.limit for metric in metrics) else None


def misses(metrics: Sequence[Metric]) -> list[str]:
    """The metrics that are out of spec, in words: value, limit, and what it means where that is known."""
    return [_miss(metric) for metric in metrics if metric.verdict == "out_of_spec"]


def _miss(metric: Metric) -> str:
    unit = "" if metric.unit == "1" else f" {metric.unit}"
    words = f" ({metric.words})" if metric.words else ""
    return f"{metric.name} {number(metric.value, '.4g')}{unit}, limit {metric.limit}{words}"


def _since(started_s: float) -> float:
    return round(time.monotonic() - started_s, 3)
