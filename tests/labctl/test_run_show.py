"""What is said of a run: limits first, no line broken inside a figure, and what to type next."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter
from labctl.cli.run_words import described
from labctl.engine.session import line_of
from labctl.osal import absolute
from labctl.station.loading import find_station, load_station
from labctl.summary import Limit, Metric, Node, Summary
from labctl.verdicts import Verdict

METRICS = [
    Metric(name="hot_pixels", value=0.0, unit="1"),
    Metric.judge("slm_settle_frames_needed", 3.0, "1", maximum=4.0),
    Metric.judge("nrmse", 0.2, "1", maximum=0.1),
    Metric(name="read_noise", value=335.1, unit="DN", stderr=12.0),
]


@pytest.fixture
def run(tmp_path: Path) -> RunReader:
    with RunWriter.create(tmp_path, "test", load_station(find_station(None))) as writer:
        summary = Summary(run_id=writer.run_id, verdict=Verdict.OUT_OF_SPEC, metrics=METRICS)
        writer.finish(Verdict.OUT_OF_SPEC, summary)
    return RunReader(writer.path)


def test_what_a_limit_judges_is_shown_first_and_the_rest_is_asked_for(
    run: RunReader, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "show", str(run.path)]) == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    at = shown.index("✗ nrmse 0.2  (≤ 0.1)")
    assert shown[at + 1 :] == [
        "✓ slm_settle_frames_needed 3  (≤ 4)",
        "· 2 figures without a limit: --all",
        f"next: labctl run verify {run.run_id[-4:]}",
    ]
    every = described(run, every=True, width=80)
    assert "  · hot_pixels 0\n  · read_noise 335.1 ± 12 DN\n" in every
    assert "--all" not in every


def test_a_line_of_a_node_is_broken_between_figures_only() -> None:
    metrics = [
        Metric(name="registration_slm_rms", value=0.02108, unit="px", limit=Limit(max=0.3)),
        Metric(name="registration_display_rms", value=0.02332, unit="px", limit=Limit(max=0.3)),
        Metric(name="system_gain", value=4.054, unit="DN/e-", stderr=0.5),
    ]
    node = Node(name="registration", state="done", check="in_spec", duration_s=0.04, metrics=metrics)
    lines = line_of(node, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.strip() for line in lines[1:]] == [
        "registration_display_rms 0.02332 px (≤ 0.3)",
        "system_gain 4.054 ± 0.5 DN/e-",
    ]
    assert len(line_of(node, 200).splitlines()) == 1


def test_why_a_calibration_is_applied_is_not_said_beside_the_gate() -> None:
    node = Node(name="gate", state="applied", reason="a long sentence that the end of the run says")
    assert line_of(node).split() == ["✓", "gate", "applied"]


def test_paths_have_no_detours_unless_a_link_makes_them_another_place(tmp_path: Path) -> None:
    (tmp_path / "today").mkdir()
    assert absolute(tmp_path / "today" / ".." / "runs") == tmp_path / "runs"
    assert absolute(Path("runs")) == Path.cwd() / "runs"
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    (tmp_path / "link").symlink_to(elsewhere)
    detour = tmp_path / "link" / ".." / "runs"
    assert absolute(detour) == detour
