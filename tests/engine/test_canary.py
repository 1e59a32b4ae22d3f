"""Canaries: what they show, what they say of a bench that moves, and that a night with them can be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from everyday import everyday

from calibration.errors import BadScan
from calibration.frames.scan import EIGHT_BIT, PanelLevels
from calibration.judge.canaries import LEAD, REPEATS, VECTORS, canary_scan, change, read_canaries
from labctl.archive import RunReader, list_runs
from labctl.console import Console
from labctl.engine.plan import plan, planned
from labctl.engine.policy import as_json, from_json, maintained
from labctl.engine.refit import refit
from labctl.engine.session import open_session, resumed_session
from labctl.engine.walk import Leg
from labctl.lab import Lab
from labctl.nodes.canary import CANARY_END, CANARY_MIDDLE, CANARY_START
from labctl.nodes.node import Facts
from labctl.nodes.registry import with_parents, without_products
from labctl.report.page import write_report
from labctl.station.loading import LoadedStation, load_station
from labctl.summary import Summary
from labctl.verdicts import Verdict

pytestmark = pytest.mark.figures

LEGS = [Leg(node) for node in with_parents([CANARY_END])]


def night(loaded: LoadedStation, runs: Path, before: Callable[[str], None] = lambda moment: None) -> Summary:
    """A run that shows the canaries three times; ``before`` is called ahead of each time."""
    lab = Lab(Console(quiet=True))
    with (
        open_session(lab, loaded, runs, "nightly", {"legs": as_json(LEGS)}) as session,
        session.acquirer() as acquirer,
    ):
        take = acquirer.take

        def watched(step):
            if step.kind == "canary":
                before(str(step.attrs["moment"]))
            return take(step)

        acquirer.take = watched  # type: ignore[method-assign]
        session.walk_on(acquirer, LEGS)
        return session.conclude()


def values(summary: Summary) -> dict[str, float]:
    return {m.name: m.value for m in summary.metrics if m.name.startswith("canary") and m.value is not None}


@pytest.fixture(scope="module")
def quiet(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """A night on a bench that nothing befalls, in its archive."""
    runs = tmp_path_factory.mktemp("quiet") / "runs"
    return runs, night(load_station(small_file), runs)


def test_canaries_are_the_same_for_the_life_of_a_bench() -> None:
    scan = canary_scan((32, 32), EIGHT_BIT)
    assert len(scan) == LEAD + REPEATS * VECTORS
    assert len(scan.slm) == 1
    np.testing.assert_array_equal(scan.display[LEAD : LEAD + VECTORS], scan.display[-VECTORS:])
    # drawn once, and written down here: whoever changes them breaks the memory of every bench
    assert scan.slm[0, 0, :6].tolist() == SLM
    assert scan.display[LEAD, :6].tolist() == DISPLAY
    binary = canary_scan((8, 8), PanelLevels(2, 1024))
    assert set(np.unique(binary.display)) == {0, 1}
    assert binary.slm.dtype == np.uint16


SLM = [101, 128, 87, 194, 12, 254]
DISPLAY = [16, 1, 229, 201, 231, 62]


def readings(rng: np.random.Generator, pattern: np.ndarray, light: float = 1.0, flicker: float = 0.003) -> np.ndarray:
    shown = np.concatenate([pattern[-LEAD:], np.tile(pattern, (REPEATS, 1))])
    power = light * (1 + flicker * rng.standard_normal((len(shown), 1)))
    return power * shown + 3.0 * rng.standard_normal(shown.shape)


def test_light_and_pattern_are_told_apart() -> None:
    rng = np.random.default_rng(1)
    pattern = rng.uniform(500, 1500, (VECTORS, 48))
    first = read_canaries(readings(rng, pattern))
    found = [change(first, read_canaries(readings(rng, pattern, 1.05))) for _ in range(40)]
    assert np.mean([c.light for c in found]) == pytest.approx(0.05, abs=0.001)
    spread, errors = np.std([c.light for c in found]), np.mean([c.light_stderr for c in found]) / np.sqrt(2)
    assert spread == pytest.approx(errors, rel=0.35)
    assert np.mean([c.shape for c in found]) == pytest.approx(1.0, abs=0.06)
    moved = change(first, read_canaries(readings(rng, 0.98 * pattern + 0.02 * np.roll(pattern, 1, axis=1))))
    assert moved.shape > 3.0
    assert abs(moved.light) < 4 * moved.light_stderr


def test_a_beam_that_walks_tilts_the_light_and_the_source_does_not() -> None:
    rng = np.random.default_rng(3)
    pattern = rng.uniform(500, 1500, (VECTORS, 48))
    at = np.linspace(-1, 1, 48)
    mean = pattern.mean(axis=0)
    walked = pattern * (1 + 0.004 * at)

    def slope(light: np.ndarray) -> float:
        return float(np.polyfit(at, light, 1)[0] / light.mean())

    found = {
        name: [read_canaries(readings(rng, bright * shown)) for _ in range(60)]
        for name, bright, shown in (("quiet", 1.0, pattern), ("dim", 0.9, pattern), ("walked", 1.0, walked))
    }
    for name, true in (("quiet", slope(mean)), ("dim", slope(mean)), ("walked", slope(walked.mean(axis=0)))):
        tilts, errors = ([getattr(c, field) for c in found[name]] for field in ("tilt", "tilt_stderr"))
        assert np.mean(tilts) == pytest.approx(true, abs=4 * np.mean(errors) / np.sqrt(60))
        assert np.std(tilts) == pytest.approx(np.mean(errors), rel=0.35)
    assert slope(walked.mean(axis=0)) - slope(mean) > 10 * found["quiet"][0].tilt_stderr


def test_canaries_without_light_are_refused() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(BadScan, match="no light"):
        read_canaries(3.0 * rng.standard_normal((LEAD + REPEATS * VECTORS, 32)))


def test_a_knock_in_the_middle_is_out_of_spec_in_words(
    small_file: Path, quiet: tuple[Path, Summary], tmp_path: Path
) -> None:
    ends = [s.attrs for s in RunReader(run_of(quiet[0])).segments("canary")]
    at_s = max(float(a["next_device_time_s"]) for a in ends if a["moment"] == "middle")
    knocked = load_station(small_file, (f"mock.drift.knock_at_s={at_s}", "mock.drift.knock_y_px=1.0"))
    summary = night(knocked, tmp_path / "runs")
    assert summary.verdict is Verdict.OUT_OF_SPEC
    (reason,) = (node.reason for node in summary.nodes if node.check == "out_of_spec")
    assert "canary_knock" in reason
    assert "something moved during the run" in reason
    assert values(summary)["canary_knock_middle"] == values(quiet[1])["canary_knock_middle"]


def test_a_source_that_fades_is_no_knock(small_file: Path, quiet: tuple[Path, Summary], tmp_path: Path) -> None:
    fading = load_station(small_file, ("mock.drift.power_walk_per_sqrt_s=0.01",))
    summary = night(fading, tmp_path / "runs")
    found = values(summary)
    assert summary.verdict is Verdict.OK
    assert found["canary_warmup"] == pytest.approx(found["canary_signal_end"] / found["canary_signal"] - 1)
    assert abs(found["canary_signal"] / values(quiet[1])["canary_signal"] - 1) > 0.005
    assert found["canary_knock"] < 1.6


@pytest.mark.parametrize("moment", everyday(["start", "middle", "end"], 1))
def test_a_night_that_is_stopped_at_its_canaries_goes_on_bit_for_bit(
    small_file: Path, quiet: tuple[Path, Summary], tmp_path: Path, moment: str
) -> None:
    class Stop(Exception):
        pass

    def stop(now: str) -> None:
        if now == moment:
            raise Stop

    runs = tmp_path / "runs"
    with pytest.raises(Stop):
        night(load_station(small_file), runs, stop)
    lab = Lab(Console(quiet=True))
    with resumed_session(lab, run_of(runs), runs) as session:
        session.walk(from_json(RunReader(run_of(runs)).info["job"]["legs"]))
        summary = session.conclude()
    assert values(summary) == values(quiet[1])
    assert [r.sha256 for r in RunReader(run_of(runs)).manifest] == [
        r.sha256 for r in RunReader(run_of(quiet[0])).manifest
    ]


def test_a_night_is_analysed_again_from_the_disk_and_drawn(quiet: tuple[Path, Summary], tmp_path: Path) -> None:
    again = refit(Lab(Console(quiet=True)), run_of(quiet[0]))
    assert values(again.summary) == values(quiet[1])
    called_with = {"--bench": "a b.toml", "--runs": "../runs"}
    page = write_report(tmp_path / "report.html", run_of(quiet[0]), again.summary, again.walk, called_with)
    text = page.read_text(encoding="utf-8")
    short = run_of(quiet[0]).name.rpartition("-")[2]
    assert f"<code>labctl run verify {short} --runs ../runs</code>" in text  # what is to be typed works when typed
    assert f"<code>labctl fit {short} --runs ../runs</code>" in text
    assert text.count(">Canaries</h2>") == 1
    assert text.count(">Drift over the nights</h2>") == 1


def test_canaries_belong_to_nights_and_are_counted_by_the_plan(small_file: Path, quiet: tuple[Path, Summary]) -> None:
    loaded, runs = load_station(small_file), quiet[0]
    canaries = {CANARY_START, CANARY_MIDDLE, CANARY_END}
    by_day = maintained(runs, loaded, without_products())
    assert not canaries & set(without_products())
    assert not {node.name for node in canaries} & {node.name for node in plan(runs, loaded, by_day).nodes}
    facts = Facts((256, 320), (256, 320), (310, 380), 1 / 60)
    counted = {p.node: p.kept for p in planned(loaded.station, facts, with_parents([CANARY_END]))}
    measured = sum(s.row.rows for s in RunReader(run_of(runs)).segments("canary"))
    assert sum(counted[node.name] for node in canaries) == measured == 3 * (LEAD + REPEATS * VECTORS)
    again = maintained(runs, loaded, [CANARY_END])
    assert {leg.node.name for leg in again if leg.way == "measure"} == {node.name for node in canaries}
    assert from_json(as_json(again)) == again


def run_of(runs: Path) -> Path:
    return list_runs(runs)[0].path


def test_a_quiet_night_is_in_spec(quiet: tuple[Path, Summary]) -> None:
    found = values(quiet[1])
    assert quiet[1].verdict is Verdict.OK
    assert found["canary_signal"] > 100
    assert found["canary_knock"] < 1.5
    warmup = next(m for m in quiet[1].metrics if m.name == "canary_warmup")
    assert warmup.value is not None
    assert warmup.stderr is not None
    assert abs(warmup.value) < 5 * warmup.stderr
