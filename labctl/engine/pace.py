"""Whether a run may go on to its next node or step, and where it is: stop signals, the time budget, progress."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from labctl.archive import RunWriter
from labctl.bench.steps import Step
from labctl.console import Console, Progress
from labctl.engine.budget import Budget
from labctl.engine.plan import PlannedNode
from labctl.engine.tracker import Tracker
from labctl.osal import stops


class Pace:
    """Of one run.

    Parameters
    ----------
    run
        The run.
    console
        Where the bars are, and where it is said that the run stops.
    budget
        The time that there is.

    Attributes
    ----------
    tracker
        Counts what is read.
    """

    def __init__(self, run: RunWriter, console: Console, budget: Budget) -> None:
        self.budget, self.tracker = budget, Tracker(run.path)
        self._run, self._console = run, console
        self._bars = ExitStack()
        self._bar: Progress | None = None
        self._needed_s: dict[str, float] = {}
        self._node = ""
        run.heard = self.tracker.hear

    def expect(self, nodes: Sequence[PlannedNode], sealed_rows: int = 0) -> None:
        """What a plan says of the nodes to come.

        Parameters
        ----------
        sealed_rows
            Frames that an earlier process has read: the nodes that they are of need less time.
        """
        for node in nodes:
            passed = min(sealed_rows, node.frames or 0)
            sealed_rows -= passed
            share = 1 - passed / node.frames if node.frames else 1.0
            self._needed_s[node.name] = share * (node.seconds or 0.0)
        self.tracker.plan({node.name: node.frames for node in nodes})

    def require(self, node: str, seconds: float = 0.0) -> None:
        """Go on to a node only if nobody has asked to stop, and if all of it fits into the time.

        Parameters
        ----------
        seconds
            That it needs at least [s].

        Raises
        ------
        BudgetSpent, KeyboardInterrupt
        """
        stops.heed()
        needed_s = self._needed_s[node] = max(self._needed_s.get(node, 0.0), seconds)
        self.budget.require(needed_s, node, self._run.run_id, self._rest_s(node))

    def begin_node(self, node: str) -> None:
        """The steps that come are this node's."""
        self._node = node
        self.tracker.begin_node(node)
        self._show_total()

    def count(self, frames: int) -> None:
        """The node reads so many frames more, which is known now that its steps are made."""
        self.tracker.count(frames)
        self._show_total()

    def needs_nothing(self, node: str) -> None:
        """A node that was planned to read reads nothing, as has been found out meanwhile."""
        self._needed_s[node] = 0.0

    def before_step(self, step: Step) -> None:
        """Go on to a step only if nobody has asked to stop, and if it fits into the time.

        Raises
        ------
        BudgetSpent, KeyboardInterrupt
        """
        stops.heed()
        if (seconds := self.tracker.seconds_of(step.rows)) is not None:
            what = f"the next block of {self._node}"
            self.budget.require(seconds, what, self._run.run_id, self._rest_s(self._node))
        self.tracker.begin_step(step.kind, step.rows)

    def during_analysis(self) -> None:
        """Go on with an analysis only if nobody has asked to stop, and while there is time.

        Raises
        ------
        BudgetSpent, KeyboardInterrupt
        """
        stops.heed()
        self.budget.require_in_time(self._node, self._run.run_id)

    def advance(self, frames: int) -> None:
        """So many frames are read."""
        if self._bar is not None:
            self._bar.advance(frames)
        self.tracker.advance(frames)

    @contextmanager
    def stopping_gently(self) -> Iterator[None]:
        """Inside the block the first stop signal lets the block of frames that is read come to its end."""
        with stops.graceful(self._say_stopping), self._bars:
            yield
            stops.heed()

    def show_bar(self) -> None:
        """Frames count on a bar from now on, which says which node they are of."""
        self._bar = self._bars.enter_context(self._console.progress("frames", self.tracker.frames))

    def hide_bar(self) -> None:
        """Frames count on no bar."""
        self._bar = None
        self._bars.close()

    def _show_total(self) -> None:
        if self._bar is not None:
            self._bar.expect(self._node, self.tracker.frames)

    def _rest_s(self, node: str) -> float | None:
        """What this node and all after it need [s]; None where it is not in the plan."""
        names = list(self._needed_s)
        if node not in names:
            return None
        return sum(self._needed_s[name] for name in names[names.index(node) :])

    def _say_stopping(self) -> None:
        when = ""
        if self.tracker.state == "measuring":
            left_s = self.tracker.step_left_s
            when = " after this block" + (f" (about {max(1, math.ceil(left_s))} s)" if left_s is not None else "")
        again = "Press Ctrl-C again to stop now." if stops.asked == signal.SIGINT else "A second signal stops now."
        self._console.warn(f"Stopping{when}; what was read is kept. {again}")
