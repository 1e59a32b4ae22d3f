"""`labctl simulate` part by part: on workers, stopped and gone on with, the numbers are those of one run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import labctl
from calibration.errors import BadOperands
from labctl.cli.workers import WorkerOptions
from labctl.errors import UsageError
from labctl.studies.chains import score_all
from labctl.studies.simulate import TextTokens, Workers, parts_of, simulate
from labctl.studies.sweep import on_cluster, score
from simulation.benches.opening import described
from simulation.conversion.optical import optical_report, opticalize
from simulation.conversion.report import OpticalReport
from simulation.evaluation.perplexity import perplexity
from simulation.light.coarse import Bits
from simulation.light.optics import ideal
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.language import Language
from simulation.scaling.parts import OPTICAL, Part, PartStore, Scores, State, Subject
from simulation.scaling.points import DIGITAL

CONTEXT, LEVELS = 8, (3.0, 100.0)
TEXT = TextTokens(
    "some", torch.randint(40, (16 * CONTEXT * 3 + 30,), generator=torch.Generator().manual_seed(1)).tolist()
)


@pytest.fixture(scope="module")
def language() -> Language:
    model = GPT(
        GPTConfig(vocabulary=40, context=CONTEXT, width=16, blocks=1, heads=2), torch.Generator().manual_seed(0)
    )
    return Language("tiny", model.eval(), lambda text: [], CONTEXT, 40)


def subject_of(language: Language, bench: str = "paper") -> Subject:
    return Subject(language.model, TEXT.ids, CONTEXT, described(bench), None, {}, 3, "cpu")


def travelled(subject: Subject) -> Subject:
    """As it arrives on a worker."""
    made, parts = subject.__reduce__()
    arrived: Subject = made(*parts)
    return arrived


class Ahead:
    """Computes all that it is given, the last first, on copies; and counts."""

    def __init__(self, copies: int = 2) -> None:
        self.copies, self.batches = copies, list[tuple[str, int]]()

    def __call__(self, material: Any, points: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        subjects = [travelled(material) if isinstance(material, Subject) else material for _ in range(self.copies)]
        for number, point in enumerate(reversed(points)):
            self.batches.append((point.machine, point.batch))
            yield point, subjects[number % self.copies].score(point)


@pytest.mark.parametrize("bench", ["paper", "ideal"])
def test_parts_that_workers_compute_ahead_are_those_of_one_run(language: Language, bench: str) -> None:
    """The preset ``paper`` shows passes apart where counts are few: how much noise is used depends on the text."""
    here = simulate(language, bench, TEXT, None, LEVELS, seed=3)
    there, told = Ahead(), list[float]()
    found = simulate(language, bench, TEXT, None, LEVELS, seed=3, workers=Workers(there), advance=told.append)
    assert found == here
    assert sum(told) == parts_of(bench, LEVELS, TEXT, CONTEXT) == 5 * 5
    assert len(there.batches) >= 25
    whole = opticalize(language.model, described(bench), photons_per_mac=LEVELS[0], seed=3)
    assert here.levels[0].perplexity == perplexity(whole, TEXT.ids, context=CONTEXT).ppl


def test_what_was_not_measured_of_an_imported_bench_is_that_of_the_whole_text(language: Language) -> None:
    rng = np.random.default_rng(1)
    inputs, weights = rng.random((400, 12)), rng.random((4, 12))
    response = labctl.fit(inputs, weights, 50 + 100 * inputs @ weights.T + rng.normal(0, 2, (400, 4))).response
    here = simulate(language, response, TEXT, None, (), seed=3)
    found = simulate(language, response, TEXT, None, (), seed=3, workers=Workers(Ahead()))
    assert found == here
    assert "of the readings are outside" in here.not_measured[-1]


def test_a_simulation_that_was_stopped_goes_on_where_it_was(language: Language, tmp_path: Path) -> None:
    def stopping(material: Any, points: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        for count, point in enumerate(points):
            if count == 2:
                raise KeyboardInterrupt
            yield point, material.score(point)

    subject, on, store = subject_of(language), [(DIGITAL, None), (OPTICAL, 3.0)], PartStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        score_all(subject, on, stopping, store)
    rest = Ahead()
    found = score_all(subject, on, rest, store)
    assert set(rest.batches) == {(DIGITAL, batch) for batch in (2, 3, 4)} | {(OPTICAL, batch) for batch in range(5)}
    assert found == score_all(subject, on)
    kept = sorted(tmp_path.rglob("*.json"))
    kept[0].write_text("damaged")
    again = Ahead()
    assert score_all(subject, on, again, store) == found
    assert len(again.batches) == 1
    other = Ahead()
    assert score_all(replace(subject, seed=4), on, other, store) != found
    assert (DIGITAL, 0) in other.batches


@dataclass(frozen=True)
class Uneven:
    """Uses as much noise for a batch as its number says, and tells where it began."""

    report: OpticalReport | None
    batches: int = 5
    about: str = ""

    def score(self, part: Part) -> Scores:
        calls = part.start[0][3] if part.start else 0
        end: State = (("layer", 1, 2, calls + (1 if part.batch < 2 else part.batch)),)
        return Scores((float(calls) + 1,), (2.0,), end, self.report)


def test_what_stays_digital_is_that_of_the_whole_text(language: Language) -> None:
    whole = opticalize(language.model, "paper", photons_per_mac=LEVELS[0], seed=3)
    perplexity(whole, TEXT.ids, context=CONTEXT)
    one, parts = optical_report(whole), score_all(subject_of(language), [(OPTICAL, LEVELS[0])])
    found = parts[OPTICAL, LEVELS[0]].report
    assert found is not None
    assert sum(one.by_elements.values()) > 0
    assert found.by_elements == one.by_elements
    assert found.digital_macs == one.digital_macs
    assert found.words == one.words


def test_what_was_computed_from_a_wrong_guess_is_thrown_away(language: Language) -> None:
    uneven: Any = Uneven(subject_of(language, "ideal").score(Part("", OPTICAL, None, 0, (), "")).report)
    ahead, told = Ahead(), list[float]()
    one = score_all(uneven, [(OPTICAL, None)])
    found = score_all(uneven, [(OPTICAL, None)], ahead, advance=told.append)
    assert found == one
    assert one[OPTICAL, None].perplexity.nats_per_token == (1 + 2 + 3 + 5 + 8) / 10
    assert sum(told) == 5
    assert [batch for _, batch in ahead.batches] == [0, 4, 3, 2, 1, 3, 4]  # the first guess is wrong from 3 on
    assert one[OPTICAL, None].report.total.products == 5 * uneven.report.total.products  # type: ignore[union-attr]


def test_a_text_too_short_is_refused(language: Language) -> None:
    with pytest.raises(BadOperands, match="nothing to score"):
        simulate(language, "ideal", TextTokens("none", [1]), None, ())


def test_a_worker_of_another_version_computes_no_part(language: Language) -> None:
    with pytest.raises(UsageError, match="another version"):
        score(subject_of(language), Part("", DIGITAL, None, 0, (), "0" * 12))


@pytest.mark.slow  # for workers start; what they compute is tested above
@pytest.mark.cluster
def test_a_cluster_gives_the_numbers_of_one_run_though_a_worker_is_killed(language: Language, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    here = simulate(language, "paper", TEXT, None, LEVELS, seed=3)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        compute = on_cluster(cluster.scheduler_address, answer_s=30.0, stall_s=60.0)
        victims = [next(iter(cluster.workers.values())).pid]

        def killing(material: Any, points: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
            for result in compute(material, points):
                if victims:
                    os.kill(victims.pop(), signal.SIGKILL)
                yield result

        workers = Workers(killing, PartStore(tmp_path))
        assert simulate(language, "paper", TEXT, None, LEVELS, seed=3, workers=workers) == here
    again = Ahead()
    assert simulate(language, "paper", TEXT, None, LEVELS, seed=3, workers=replace(workers, compute=again)) == here
    assert not again.batches


def test_processes_here_and_a_cluster_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        WorkerOptions(jobs=2, scheduler="tcp://127.0.0.1:8786").compute()


def test_parts_of_a_bench_with_other_levels_are_others(language) -> None:
    """Bits of inputs and weights are in no name: a folder of parts once gave those of another bench."""
    base = subject_of(language, "ideal")
    benches = [base.bench, *(Bits(*bits).on(ideal()) for bits in ((4, 4, 8), (4, 8, 8), (8, 8, 8)))]
    assert len({replace(base, bench=bench).about for bench in benches}) == len(benches)
    assert replace(base, bench=Bits(4, 4, 8).on(ideal())).about == replace(base, bench=benches[1]).about
