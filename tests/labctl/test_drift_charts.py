"""Control charts from the summaries of many nights: what they count, when a phase begins, and what people decide."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibration.statistics.control_chart import LEARNING_NIGHTS
from labctl.archive import RunWriter
from labctl.clock import played_at
from labctl.errors import RunDamaged, UsageError
from labctl.night.charts import GATES, Chart, chart_of, charts
from labctl.night.decisions import decide, decisions
from labctl.night.textchart import text_chart
from labctl.nodes.node import Node as GraphNode
from labctl.station.loading import load_station
from labctl.summary import CalibrationRef, Metric, Node, Summary
from labctl.verdicts import Verdict

FIRST = dt.datetime(2026, 3, 1, 2, tzinfo=dt.UTC)
BENCH = load_station().bench
LEVELS = dict(zip([gate.metric for gate in GATES], (0.013, 72000.0, 64.0, 0.05, 0.21, 0.02), strict=True))
SPREADS = {name: 0.01 * level for name, level in LEVELS.items()}


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ninety nights ask ninety times which code they are of."""
    monkeypatch.setattr("labctl.archive.run.code_provenance", lambda sources: {})


class Nights:
    """An archive that gets one night after the other.

    Parameters
    ----------
    runs
        The archive.
    """

    def __init__(self, runs: Path, seed: int = 1) -> None:
        self.runs, self.day = runs, 0
        self._rng = np.random.default_rng(seed)

    @property
    def at(self) -> dt.datetime:
        """When the next night begins."""
        return FIRST + dt.timedelta(days=self.day)

    def add(
        self,
        count: int = 1,
        *,
        shift: dict[str, float] | None = None,
        verdict: Verdict = Verdict.OK,
        states: dict[str, str] | None = None,
        overrides: tuple[str, ...] = (),
        repaired: str = "",
        purpose: str = "nightly",
        applied: str | None = None,
    ) -> Summary:
        """So many nights; ``shift`` in standard deviations by metric."""
        for _ in range(count):
            with played_at(self.at), RunWriter.create(self.runs, purpose, load_station(None, overrides)) as run:
                if repaired:
                    run.journal("check", node=repaired, verdict="out_of_spec", why="moved by 3 px")
                nodes = [self._node(gate.node, gate.metric, shift or {}, states or {}) for gate in GATES]
                calibration = CalibrationRef(id=applied, path="", applied=True) if applied else None
                summary = Summary(
                    run_id=run.run_id,
                    bench=BENCH,
                    verdict=verdict,
                    started=self.at,
                    nodes=nodes,
                    metrics=[metric for node in nodes for metric in node.metrics],
                    calibration=calibration,
                )
                run.finish(verdict, summary)
            self.day += 1
        return summary

    def _node(self, node: GraphNode, metric: str, shift: dict[str, float], states: dict[str, str]) -> Node:
        value = LEVELS[metric] + SPREADS[metric] * (self._rng.standard_normal() + shift.get(metric, 0.0))
        metrics = [Metric.judge(metric, value, "DN"), Metric.judge(f"{metric}_beside", value, "DN")]
        return Node(name=node.name, state=states.get(node.name, "done"), metrics=metrics)  # type: ignore[arg-type]

    def charts(self, current: Summary | None = None) -> dict[str, Chart]:
        """By metric."""
        return {chart.metric: chart for chart in charts(self.runs, BENCH, current)}

    def state(self, metric: str) -> str:
        """Of a chart after the last night."""
        return self.charts()[metric].state().state


@pytest.fixture
def nights(runs: Path) -> Nights:
    return Nights(runs)


def test_at_most_five_charts_have_the_usual_limits_and_one_more_may_fire(nights: Nights) -> None:
    assert 1 <= len([gate for gate in GATES if gate.widened < 2]) <= 5
    assert len(GATES) <= 6
    assert all(chart.state().state == "learning" and not chart.points for chart in nights.charts().values())


def test_charts_learn_watch_and_find_a_shift(nights: Nights) -> None:
    nights.add(LEARNING_NIGHTS)
    assert {chart.state().state for chart in nights.charts().values()} == {"learning"}
    nights.add(3)
    state = nights.charts()["dark_level"].state()
    assert (state.state, state.nights, state.unit, state.limit) == ("in_control", 23, "DN", 3.5)
    assert state.centre == pytest.approx(64.0, rel=0.01)
    assert state.phase_since == FIRST.isoformat()
    nights.add(8, shift={"dark_level": 4.0})
    found = nights.charts()
    assert {name for name, chart in found.items() if chart.state().state == "alarm"} == {"dark_level"}
    z = found["dark_level"].state().z
    assert z is not None
    assert z > 3.5


def test_a_pattern_that_changes_a_little_every_night_fires_its_own_chart_alone(nights: Nights) -> None:
    nights.add(LEARNING_NIGHTS + 2)
    for night in range(25):
        nights.add(shift={"canary_tilt": 0.5 * night})
    assert {name for name, chart in nights.charts().items() if chart.state().state == "alarm"} == {"canary_tilt"}
    decide(nights.runs, BENCH, "rebaseline", "canary_tilt", "the beam was aligned")
    nights.day += 1
    nights.add(1)
    assert nights.state("canary_tilt") == "learning"


def test_only_nights_that_measured_all_they_planned_count(nights: Nights) -> None:
    nights.add(5)
    for verdict in (Verdict.FAULT, Verdict.PARTIAL, Verdict.INTERLOCK, Verdict.ABORTED):
        nights.add(verdict=verdict, shift={"nrmse": 90.0})
    nights.add(purpose="measure", shift={"nrmse": 90.0})
    nights.add(verdict=Verdict.OUT_OF_SPEC)
    nights.add(verdict=Verdict.DRIFT)
    assert len(nights.charts()["nrmse"].points) == 7


def test_nights_of_another_bench_are_not_mixed_in(nights: Nights) -> None:
    nights.add(3)
    nights.add(overrides=('bench.name="other"',))
    assert len(nights.charts()["nrmse"].points) == 3


def test_what_was_kept_says_nothing_new(nights: Nights) -> None:
    nights.add(4)
    nights.add(6, states={gate.node.name: "kept" for gate in GATES})
    assert {len(chart.points) for chart in nights.charts().values()} == {4}


def test_a_quick_check_counts_where_it_measures_the_same(nights: Nights) -> None:
    nights.add(2)
    (gate,) = (gate for gate in GATES if gate.checked)
    node = Node(
        name=gate.node.name,
        state="checked",
        metrics=[Metric.judge(gate.metric, 1.0), Metric.judge(gate.checked, 65.5, "DN", stderr=0.1)],
    )
    with played_at(nights.at), RunWriter.create(nights.runs, "nightly", load_station()) as run:
        run.finish(Verdict.OK, Summary(run_id=run.run_id, bench=BENCH, verdict="ok", started=nights.at, nodes=[node]))
    last = nights.charts()[gate.metric].nights[-1]
    assert (last.value, last.stderr) == (65.5, 0.1)


def test_the_night_in_progress_is_the_last_point(nights: Nights) -> None:
    nights.add(3)
    with played_at(nights.at), RunWriter.create(nights.runs, "nightly", load_station()) as run:
        gate = GATES[0]
        node = Node(name=gate.node.name, state="done", metrics=[Metric.judge(gate.metric, 0.5)])
        now = Summary(run_id=run.run_id, bench=BENCH, verdict="crashed", started=nights.at, nodes=[node])
        assert [len(chart.points) for chart in charts(nights.runs, BENCH, now)] == [4, *[3] * (len(GATES) - 1)]
        assert charts(nights.runs, BENCH, now)[0].state().value == 0.5
    assert len(nights.charts()["nrmse"].points) == 3


def test_a_look_back_leaves_later_nights_out(nights: Nights) -> None:
    then = nights.add(5)
    nights.add(5)
    assert {len(chart.points) for chart in nights.charts(then).values()} == {5}


def test_a_repair_begins_a_phase_of_what_is_relative_to_the_calibration(nights: Nights) -> None:
    nights.add(6, applied="cal-1")
    nights.add(repaired="registration", applied="cal-2")
    nights.add(2)
    for gate in GATES:
        chart = nights.charts()[gate.metric]
        begun = [night.begins for night in chart.nights if night.begins]
        assert bool(begun) == gate.is_relative, gate.metric
        assert chart.points[-1].night == (3 if gate.is_relative else 9)
        assert [night.calibration for night in chart.nights] == ["cal-1"] * 6 + ["cal-2", None, None]
    assert "registration" in nights.charts()["nrmse"].nights[6].begins


def test_a_repair_in_a_run_that_is_no_night_counts(nights: Nights) -> None:
    nights.add(4)
    nights.add(repaired="registration", purpose="calibrate")
    nights.add(1)
    chart = nights.charts()["nrmse"]
    assert [bool(night.begins) for night in chart.nights] == [False] * 4 + [True]


def test_a_night_that_measures_what_is_merely_old_begins_nothing(nights: Nights) -> None:
    nights.add(4, applied="cal-1")
    with played_at(nights.at), RunWriter.create(nights.runs, "nightly", load_station()) as run:
        run.journal("check", node="crosstalk", verdict="out_of_spec", why="no quick check tells")
        run.finish(Verdict.OK, Summary(run_id=run.run_id, bench=BENCH, verdict="ok", started=nights.at))
    nights.day += 1
    nights.add(1)
    assert not any(night.begins for night in nights.charts()["nrmse"].nights)


def test_another_exposure_begins_a_phase_and_another_limit_does_not(nights: Nights) -> None:
    nights.add(3)
    nights.add(2, overrides=("limits.nrmse_max=0.04", "mock.seed=9"))
    assert all(chart.points[-1].night == 5 for chart in nights.charts().values())
    nights.add(1, overrides=("acquisition.exposure_s=0.013",))
    for chart in nights.charts().values():
        assert chart.points[-1].night == 1
        assert "acquisition.exposure_s" in chart.nights[-1].begins


def alarmed(nights: Nights) -> None:
    nights.add(LEARNING_NIGHTS)
    nights.add(6, shift={"dark_level": 6.0})
    assert nights.state("dark_level") == "alarm"


def test_an_acknowledged_alarm_is_silent_at_once_and_until_it_returns(nights: Nights) -> None:
    alarmed(nights)
    with played_at(nights.at - dt.timedelta(hours=12)):
        decide(nights.runs, BENCH, "ack", "dark_level", "the camera has a new cooler")
    assert nights.state("dark_level") == "acknowledged"
    nights.add(3, shift={"dark_level": 6.0})
    assert nights.state("dark_level") == "acknowledged"
    nights.add(20)
    assert nights.state("dark_level") == "in_control"
    nights.add(6, shift={"dark_level": 6.0})
    assert nights.state("dark_level") == "alarm"


def test_a_new_baseline_learns_anew(nights: Nights) -> None:
    alarmed(nights)
    with played_at(nights.at - dt.timedelta(hours=12)):
        decide(nights.runs, BENCH, "rebaseline", None, "moved to another room")
    assert {chart.state().nights for chart in nights.charts().values()} == {0}
    nights.add(LEARNING_NIGHTS + 4, shift={"dark_level": 6.0})
    for chart in nights.charts().values():
        assert chart.state().state == "in_control"
        assert "moved to another room" in chart.nights[26].begins


def test_decisions_are_kept_with_time_user_and_reason(nights: Nights) -> None:
    decide(nights.runs, BENCH, "rebaseline", None, "  a new lamp ")
    decide(nights.runs, BENCH, "ack", "nrmse", "known")
    first, second = decisions(nights.runs, BENCH)
    assert (first.event, first.metric, first.reason) == ("rebaseline", None, "a new lamp")
    assert first.moment <= second.moment
    assert first.concerns("nrmse")
    assert not second.concerns("dark_level")
    path = nights.runs / "drift" / f"{BENCH}.jsonl"
    assert json.loads(path.read_text().splitlines()[0])["user"] == first.user
    path.write_text(path.read_text() + '{"torn": ')
    assert len(decisions(nights.runs, BENCH)) == 2
    decide(nights.runs, BENCH, "ack", "nrmse", "after a kill")
    assert len(decisions(nights.runs, BENCH)) == 3
    path.write_text('{"at": "yesterday"}\n')
    with pytest.raises(RunDamaged, match="decisions"):
        decisions(nights.runs, BENCH)


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_decision_without_a_reason_is_refused(nights: Nights, reason: str) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        decide(nights.runs, BENCH, "ack", "nrmse", reason)
    assert not decisions(nights.runs, BENCH)


def test_other_metrics_are_plotted_and_never_fire(nights: Nights) -> None:
    nights.add(LEARNING_NIGHTS)
    nights.add(5, shift={"dark_level": 50.0})
    chart = chart_of(nights.runs, BENCH, "dark_level_beside")
    assert not chart.is_gated
    assert len(chart.points) == 25
    assert {point.state for point in chart.points} == {"learning"}
    with pytest.raises(UsageError) as refused:
        chart_of(nights.runs, BENCH, "drak_level")
    assert "did you mean dark_level" in refused.value.hint


def test_a_damaged_night_says_nothing(nights: Nights) -> None:
    nights.add(3)
    (next(nights.runs.glob("*/*/*/*/summary.json"))).write_text("{")
    assert {len(chart.points) for chart in nights.charts().values()} == {2}


def test_text_chart_is_narrow_and_plain(nights: Nights) -> None:
    assert text_chart(nights.charts()["nrmse"]) == ["no night has measured it yet"]
    nights.add(1)
    assert "o" in "".join(text_chart(chart_of(nights.runs, BENCH, "nrmse_beside")))
    nights.add(LEARNING_NIGHTS + 50)
    nights.add(6, shift={"nrmse": 8.0})
    lines = text_chart(nights.charts()["nrmse"])
    assert max(map(len, lines)) <= 80
    assert all(line.isascii() for line in lines)
    assert "X" in "".join(lines)
    assert lines[-1] == "10 earlier nights are not shown"
    assert "2026-05-16" in lines[-2]


Command = Callable[..., tuple[int, str, str]]


def test_the_commands_show_acknowledge_and_begin_anew(nights: Nights, labctl: Command, tmp_path: Path) -> None:
    runs = ("--runs", str(nights.runs))
    code, out, _ = labctl("drift", "show", *runs)
    assert code == 0
    assert "labctl nightly run" in out
    alarmed(nights)
    code, out, _ = labctl("drift", "show", *runs)
    assert code == 0
    (row,) = (line for line in out.splitlines() if line.startswith("dark_level  "))
    assert "alarm" in row
    assert max(len(line) for line in out.splitlines()) <= 80
    code, out, _ = labctl("drift", "show", "dark_level", "--json", *runs)
    (chart,) = json.loads(out)["charts"]
    assert (chart["state"], len(chart["points"]), chart["gated"]) == ("alarm", 26, True)
    figure = tmp_path / "charts.png"
    assert labctl("drift", "show", "--figure", str(figure), *runs)[0] == 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert labctl("drift", "show", "--figure", str(tmp_path / "charts.txt"), *runs)[0] == 2
    assert labctl("drift", "ack", "dark_level", *runs)[0] == 2
    assert labctl("drift", "ack", "nrmse", "--reason", "why not", *runs)[0] == 2
    code, _, err = labctl("drift", "ack", "darklevel", "--reason", "known", *runs)
    assert code == 2
    assert "did you mean dark_level" in err
    assert labctl("drift", "ack", "dark_level", "--reason", "known", *runs)[0] == 0
    assert "acknowledged" in labctl("drift", "show", "dark_level", *runs)[1]
    assert labctl("drift", "rebaseline", "dark_level", *runs)[0] == 2
    assert labctl("drift", "rebaseline", "dark_level", "--reason", "a new lamp", *runs)[0] == 0
    code, out, _ = labctl("drift", "show", "dark_level", "--json", *runs)
    assert json.loads(out)["charts"][0]["nights"] == 0
