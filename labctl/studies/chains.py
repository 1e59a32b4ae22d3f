"""A text on several machines, batch after batch: which parts are computed when, on how many workers ever.

The noise of a batch begins where that of the batch before it ended. Workers need not wait for that: most models use as
much noise for each batch, so that where a batch begins is known from the first one. Where the guess turns out wrong
(experts, few counts) what was computed from it is thrown away, so that results are those of one run in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from labctl.studies.sweep import Compute, in_this_process, sweep
from simulation.conversion.report import OpticalReport
from simulation.evaluation.perplexity import Perplexity, summarise
from simulation.scaling.fingerprint import code_version
from simulation.scaling.parts import Part, PartStore, Scores, State, Subject, later, together
from simulation.scaling.points import DIGITAL, INT8

Machine = tuple[str, float | None]
"""A machine of `simulation.scaling.parts`, and its photons per MAC where they are stated."""


@dataclass(frozen=True)
class Scored:
    """A whole text on one machine; ``report`` is None of a machine without light."""

    perplexity: Perplexity
    report: OpticalReport | None


def score_all(
    subject: Subject,
    machines: Sequence[Machine],
    compute: Compute = in_this_process,
    store: PartStore | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> dict[Machine, Scored]:
    """Score the subject's text on every machine.

    Parameters
    ----------
    compute
        See `labctl.studies.sweep`.
    store
        Where parts are kept, and found again; nowhere if None.
    advance
        Told of the parts that are known, ``len(machines) * subject.batches`` in the end.

    Raises
    ------
    BadOperands
        When there is nothing to score, or a model answers with NaN.
    StorageError, WorkerLost, SchedulerSilent
        See `labctl.studies.sweep`.
    """
    about, ahead = subject.about if store is not None else "", compute is not in_this_process
    chains = [_Chain(machine, subject.batches, about) for machine in machines]
    while unfinished := [chain for chain in chains if not chain.is_finished]:
        parts = [part for chain in (unfinished if ahead else unfinished[:1]) for part in chain.next_parts(ahead)]
        found, _ = sweep(subject, parts, store, compute, advance)
        if wrong := sum(chain.accept(found) for chain in unfinished):
            advance(-wrong)
    return {chain.machine: chain.scored() for chain in chains}


@dataclass
class _Chain:
    """The batches of one machine, as far as they are known."""

    machine: Machine
    batches: int
    about: str
    scores: list[Scores] = field(default_factory=list)
    is_regular: bool = True

    @property
    def is_finished(self) -> bool:
        return len(self.scores) == self.batches

    def next_parts(self, ahead: bool) -> Iterator[Part]:
        """The next batch, and, if workers are to go ahead, all others whose beginning can be told or guessed."""
        known, state = len(self.scores), self._state
        in_light = self.machine[0] not in (DIGITAL, INT8)
        may = ahead and (not in_light or (known > 0 and self.is_regular))
        for batch in range(known, self.batches if may else known + 1):
            yield self._part(batch, later(state, self.scores[0].end, batch - known) if known else state)

    def accept(self, found: Mapping[Part, Scores]) -> int:
        """Take what was computed, as far as it begins where the part before it ended; returns how many do not."""
        mine = [part for part in found if (part.machine, part.photons_per_mac) == self.machine]
        for taken in range(len(mine)):
            scores = found.get(self._part(len(self.scores), self._state))
            if scores is None:
                self.is_regular = False
                return len(mine) - taken
            self.scores.append(scores)
        return 0

    def scored(self) -> Scored:
        """The whole text."""
        reports = [each.report for each in self.scores if each.report is not None]
        nats, tokens = (
            torch.tensor([n for each in self.scores for n in getattr(each, name)], dtype=torch.float64)
            for name in ("nats", "tokens")
        )
        return Scored(summarise(nats, tokens), together(reports) if reports else None)

    @property
    def _state(self) -> State:
        return self.scores[-1].end if self.scores else ()

    def _part(self, batch: int, start: State) -> Part:
        return Part(self.about, *self.machine, batch, start, code_version())
