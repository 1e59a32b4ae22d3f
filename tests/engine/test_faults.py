"""Every fault of the mock bench through ``labctl measure``: caught as docs/explanation/mock-bench.md says, or harmless.

The bench is deterministic by frame number, so a clean run tells which frames a fault has changed: those that read
otherwise. Faults are put into the product measurement, where nothing but the channel model knows what is right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.fit.bad_frames import find_bad_frames
from calibration.frames.schedule import predicted
from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.cli import jobs
from labctl.console import Console
from labctl.engine import session
from labctl.engine.refit import refit
from labctl.lab import Lab
from labctl.nodes.analysis import analysis_of
from labctl.nodes.evidence import DARK, PRODUCTS
from labctl.nodes.validation import BAD_FRAMES_MAX


@dataclass(frozen=True)
class Ended:
    """A run and how its command ended; arrays have one row for each product frame, in the order shown."""

    code: int
    reader: RunReader
    bench: Any

    @property
    def summary(self) -> Any:
        return self.reader.summary()

    @property
    def retries(self) -> list[str]:
        return [line["code"] for line in self.reader.journal() if line["event"] == "retry"]

    def frames(self, name: str) -> NDArray[Any]:
        return np.concatenate([segment.arrays[name] for segment in self.reader.segments(PRODUCTS)])

    @property
    def owners(self) -> list[tuple[int, int]]:
        """The product that each frame belongs to."""
        segments = self.reader.segments(PRODUCTS)
        return [(int(s.attrs["group"]), int(p)) for s in segments for p in s.arrays["product"]]


Measure = Callable[..., Ended]


@pytest.fixture(scope="module")
def run_with(larger_file: Path, larger_products, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measure]:
    """Runs ``labctl measure`` with a fault script, without the page at the end, and keeps the bench in sight.

    Without reference frames: the products' frames are the only ones in their segments. Without lists: a frame that is
    lost costs itself, and not those of its list.
    """
    benches: list[Any] = []

    @contextmanager
    def watched(station: Any) -> Iterator[Any]:
        with open_bench(station) as bench:
            benches.append(bench.source.bench)
            yield bench

    open_bench = session.open_bench
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "open_bench", watched)
        patch.setattr(jobs, "report", lambda *_: None)

        def measure(*faults: str, more: tuple[str, ...] = ()) -> Ended:
            runs = tmp_path_factory.mktemp("faults")
            code = main(
                ["measure", str(larger_products[0]), "--bench", str(larger_file), "--runs", str(runs), "--quiet",
                 "--set", f"mock.faults={json.dumps(faults)}", "--set", "acquisition.reference_spacing_frames=0",
                 "--set", "acquisition.play_lists=false", *more]
            )  # fmt: skip
            reader = RunReader(find_run(runs, "latest"))
            assert reader.verify().intact
            return Ended(code, reader, benches[-1])

        yield measure


@pytest.fixture(scope="module")
def clean(run_with: Measure) -> Ended:
    ended = run_with()
    assert ended.code == 0
    assert ended.summary.validation.bad_frames == []
    assert ended.summary.counts.retried == 0
    return ended


def changed(faulty: Ended, clean: Ended) -> list[int]:
    """Frames that read otherwise than in the clean run."""
    assert np.array_equal(faulty.frames("sequence"), clean.frames("sequence"))
    differ = faulty.frames("readings_dn") != clean.frames("readings_dn")
    return [int(i) for i in np.nonzero(differ.any(axis=1))[0]]


def assert_safe(bench: Any) -> None:
    """Light off; both panels show black."""
    assert not bench.is_lit
    for panel in (bench.slm, bench.display):
        assert not panel._history[-1][1].levels.any()


def test_clean_bench_is_left_safe(clean: Ended) -> None:
    assert_safe(clean.bench)


def test_late_lost_and_repeated_frames_are_read_again(run_with: Measure, clean: Ended) -> None:
    at = clean.frames("sequence")
    settle = clean.reader.station().station.acquisition.slm_settle_frames
    dark_frames = next(clean.reader.segments(DARK)).row.rows
    ended = run_with(f"duplicate@{settle + 2}", f"delay@{at[100]}:30", f"drop@{at[300]}")
    assert ended.code == 0
    assert ended.retries == ["E-CAM-002", "E-DEV-003", "E-CAM-001"]
    assert ended.summary.counts.retried == dark_frames + 2
    assert ended.summary.counts.discarded == 0
    found, expected = ended.summary.validation, clean.summary.validation
    assert found.bad_frames == []
    # other noise on the same products: 96 products of 24 or 40 outputs, so that the rms is known to 1/√(2·3072) = 1.3 %
    assert found.nrmse == pytest.approx(expected.nrmse, rel=0.06)
    assert found.chi2_per_dof == pytest.approx(expected.chi2_per_dof, abs=0.15)


def test_camera_that_disconnects_is_opened_again_and_the_result_is_the_same(run_with: Measure, clean: Ended) -> None:
    at = clean.frames("sequence")
    ended = run_with(f"disconnect@{at[400]}")
    assert ended.code == 0
    assert ended.retries == []
    rungs = [line for line in ended.reader.journal() if line["event"] in ("reopen", "fault")]
    assert [(line["devices"], line.get("opened")) for line in rungs] == [(["camera"], None), (["camera"], True)]
    assert ended.bench.faults.pending == []
    assert ended.summary.counts.retried == 1
    # what was sealed before is the same to the last bit; frames read later have other noise and the same light
    read, expected = ended.frames("readings_dn"), clean.frames("readings_dn")
    assert np.array_equal(read[:320], expected[:320])
    assert read.shape == expected.shape
    assert (np.diff(ended.frames("sequence")) > 0).all()
    found, before = ended.summary.validation, clean.summary.validation
    assert found.bad_frames == []
    assert found.nrmse == pytest.approx(before.nrmse, rel=0.06)
    assert found.chi2_per_dof == pytest.approx(before.chi2_per_dof, abs=0.15)
    assert_safe(ended.bench)


def test_wrong_pixels_are_found_by_index_and_their_products_left_out(run_with: Measure, clean: Ended) -> None:
    """Between them a short delay and a copy of a frame that is read alone, which change nothing."""
    at = clean.frames("sequence")
    harmless = f"delay@{at[40]}:3.0", f"duplicate@{at[120]}"
    ended = run_with(*harmless, f"stale@{at[90]}", f"swap@{at[170]}", f"garbage@{at[333]}:0.3", f"saturation@{at[450]}")
    bad = [90, 170, 171, 333, 450]
    assert changed(ended, clean) == bad
    assert ended.retries == []
    assert ended.bench.faults.pending == []  # each has happened
    assert ended.summary.validation.bad_frames == bad
    # a swap of frames that are read alone shows the frame before, twice in a row; random numbers reach full scale
    assert ended.summary.validation.bad_frame_reasons == ["stale", "stale", "stale", "saturated", "saturated"]
    listed = [(frame.index, frame.scan) for frame in ended.summary.bad_frames]
    assert listed == [(index, "products") for index in bad]
    assert len(bad) <= BAD_FRAMES_MAX * len(at)
    assert ended.code == 0
    assert ended.summary.counts.discarded == len({ended.owners[i] for i in bad})
    assert ended.summary.validation.products == ended.summary.counts.planned - ended.summary.counts.discarded
    assert ended.frames("saturated_fraction")[450] > 0.01
    assert ended.summary.validation.nrmse == pytest.approx(clean.summary.validation.nrmse, rel=0.03)


def test_slm_that_confirms_what_it_does_not_show_is_out_of_spec(run_with: Measure, clean: Ended) -> None:
    """From the second pattern on: too many frames to leave out, so that everything counts and nothing is exported."""
    segments = list(clean.reader.segments(PRODUCTS))
    at = clean.frames("sequence")
    pattern = np.concatenate([s.arrays["slm_index"] for s in segments if s.attrs["tile"] == segments[0].attrs["tile"]])
    second = int(np.argmax(np.diff(pattern.astype(int)) != 0)) + 1
    ended = run_with(f"stuck-slm@{at[second - 1] + 1}:3")
    wrong = changed(ended, clean)
    assert wrong[0] == second
    assert len(wrong) > BAD_FRAMES_MAX * len(at)
    assert ended.summary.validation.bad_frames == wrong
    assert ended.code == 10
    assert ended.summary.counts.discarded == 0
    assert "bad_frame_fraction" in next(node.reason for node in ended.summary.nodes if node.name == "validation")
    assert not (ended.reader.path / "export").exists()


@pytest.mark.parametrize(
    ("fault", "exit_code", "verdict", "error"),
    [("disconnect", 20, "fault", "E-DEV-005"), ("disk-full", 22, "storage", "E-STO-002")],
)
def test_what_cannot_be_tried_again_ends_the_run_sealed_and_the_bench_safe(
    fault: str, exit_code: int, verdict: str, error: str, run_with: Measure, clean: Ended
) -> None:
    at = clean.frames("sequence")
    ended = run_with(f"{fault}@{at[400]}", more=("--set", "acquisition.reopen_attempts=0"))
    assert ended.code == ended.summary.exit_code == exit_code
    assert ended.reader.status == ended.summary.verdict == verdict
    assert ended.summary.first_error.code == error
    assert ended.retries == []
    assert ended.bench.faults.pending == []
    assert_safe(ended.bench)
    # every segment sealed before is that of the clean run
    rows = [row.sha256 for row in ended.reader.manifest]
    assert rows == [row.sha256 for row in clean.reader.manifest][: len(rows)]
    assert len(ended.frames("sequence")) > 300


@pytest.mark.slow
def test_random_stale_frames_on_the_bench_are_all_found(run_with: Measure, clean: Ended) -> None:
    """Every twentieth frame: more than may be left out, and still the list is exact."""
    at = clean.frames("sequence")
    chosen = sorted(np.random.default_rng(5).choice(np.arange(1, len(at)), len(at) // 20, replace=False).tolist())
    ended = run_with(*(f"stale@{at[i]}" for i in chosen))
    assert changed(ended, clean) == chosen
    before = [i - 1 for i in chosen]
    assert np.array_equal(ended.frames("readings_dn")[chosen], clean.frames("readings_dn")[before])
    assert ended.summary.validation.bad_frames == chosen
    assert ended.code == 10


def test_one_stale_frame_in_a_hundred_is_found_and_no_clean_one_accused(clean: Ended) -> None:
    """Every frame of a real run once as a stale one, 1 % at a time: the copy of the reading before it.

    What was injected is known because it is done here; that a stale frame of the bench is this copy to the last bit,
    the test above asserts.
    """
    again = refit(Lab(Console(quiet=True)), clean.reader.path)
    machine, geometry = analysis_of(again.walk.results).machine, analysis_of(again.walk.results).geometry
    tiles = again.walk.evidence.tiles
    mean = np.concatenate([predicted(machine, readings.scan)[0] for _, readings in tiles])
    dn = np.concatenate([readings.minus(geometry.dark_dn).dn for _, readings in tiles])
    offset, noise, none = machine.channel.offset_dn, machine.channel.noise, np.zeros(len(dn), np.bool_)
    injected = found = 0
    for start in range(1, 101):
        stale = np.arange(start, len(dn), 100)
        read = dn.copy()
        read[stale] = dn[stale - 1]
        bad = find_bad_frames(read, mean, offset, noise, none)
        assert {frame.index for frame in bad} <= set(stale.tolist())
        assert {frame.reason for frame in bad} == {"stale"}
        injected += len(stale)
        found += len(bad)
    assert injected == len(dn) - 1
    assert found >= 0.99 * injected
