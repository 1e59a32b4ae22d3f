"""The time that a run is given: it stops beginning what will not be finished, and says how to go on.

A node whose frames can be counted before anything is measured is begun only when all of it fits. Of one that shows
products each block is: what is sealed is passed over when the run goes on, so that no time that is left is lost.
Blocks count with the time that those before have taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from labctl.durations import in_words, seconds_of
from labctl.errors import BudgetSpent, UsageError
from labctl.summary import Budget as Spent

OVERTIME_S = 30.0
"""How long after its time an analysis may still come to its end: less than the supervisor waits before it ends all [s].
"""


class Budget:
    """Time from now on, by the monotonic clock.

    Parameters
    ----------
    given_s
        How much [s]; None for as long as it takes.
    clock
        Monotonic seconds.
    """

    def __init__(self, given_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        if given_s is not None and not 0 < given_s < math.inf:
            raise UsageError("a time budget is more than nothing", expected="for example 20m", seen=f"{given_s:g} s")
        self.given_s, self._clock, self._began_s = given_s, clock, clock()

    @property
    def used_s(self) -> float:
        """How much has gone [s]."""
        return self._clock() - self._began_s

    @property
    def left_s(self) -> float:
        """How much is left [s]; infinite where no end was given."""
        return math.inf if self.given_s is None else self.given_s - self.used_s

    def require(self, needed_s: float, what: str, run_id: str, rest_s: float | None = None) -> None:
        """Go on only while ``needed_s`` are left.

        Parameters
        ----------
        what
            Needs that time: ``"crosstalk"``.
        run_id
            The run that goes on another time.
        rest_s
            That everything which is left needs [s]; None where that is not known.

        Raises
        ------
        BudgetSpent
            Exit code 30: the run is partial.
        """
        if self.given_s is None or needed_s <= self.left_s:
            return
        missing = f"; {in_words(rest_s - self.left_s)} are missing for all that is left" if rest_s else ""
        again = f" --budget {math.ceil(1.1 * max(rest_s, needed_s) / 60)}m" if rest_s else ""
        is_over = self.left_s <= 0
        raise BudgetSpent(
            f"the time was over before {what}" if is_over else f"the time does not suffice for {what}",
            device=run_id,
            action=f"beginning {what}",
            expected="time that is left" if is_over else f"{in_words(needed_s)} for it",
            seen=f"{'nothing' if is_over else in_words(self.left_s)} left of {in_words(self.given_s)}{missing}",
            safe="what was read is sealed; the bench is closed and safe",
            hint=f"labctl run resume {run_id.rpartition('-')[2]}{again}",
        )

    def require_in_time(self, what: str, run_id: str) -> None:
        """Go on with something whose length nobody knew only until the time has been over for a while.

        Raises
        ------
        BudgetSpent
            Exit code 30: the run is partial.
        """
        if self.given_s is not None and self.left_s < -OVERTIME_S:
            raise BudgetSpent(
                f"the time is over while {what} is analysed",
                device=run_id,
                action=f"analysing {what}",
                expected=f"an end within {in_words(self.given_s)}, and {in_words(OVERTIME_S)} after that",
                seen=f"{in_words(self.used_s)} have gone",
                safe="what was read is sealed; the bench is closed and safe",
                hint=f"labctl run resume {run_id.rpartition('-')[2]}",
            )

    def spent(self) -> Spent | None:
        """What the summary says of it; None where no end was given."""
        return None if self.given_s is None else Spent(given_s=self.given_s, used_s=round(self.used_s, 3))


def budget_of(text: str | None) -> Budget | None:
    """The time budget that begins now; None where nothing was typed.

    Raises
    ------
    UsageError
        When it is no span of time, or none at all.
    """
    return None if text is None else Budget(seconds_of(text, "--budget"))
