"""A run that is killed goes on after its last sealed step, and ends as one that was never interrupted, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from everyday import everyday
from processes import LIMIT_S
from safetensors.numpy import load_file

from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter, find_run
from labctl.archive.calibrations import CalibrationStore

DRIFTING = ("--set", "mock.drift.power_walk_per_sqrt_s=0.002")
"""So that the state of the bench at any time matters: its light is that of its clock."""


def measure(small: Path, workload: Path, runs: Path) -> int:
    return main(["measure", str(workload), "--bench", str(small), "--runs", str(runs), "--quiet", *DRIFTING])


def resume(runs: Path) -> int:
    return main(["run", "resume", "latest", "--runs", str(runs), "--quiet"])


def run_in(runs: Path) -> RunReader:
    return RunReader(find_run(runs, "latest"))


def segments(run: RunReader) -> list[str]:
    return [row.sha256 for row in run.manifest]


def arrays(run: RunReader) -> dict[str, np.ndarray]:
    return load_file(Path(run.summary().calibration.path).with_suffix(".safetensors"))


@pytest.fixture(scope="module")
def whole(small_file: Path, products, tmp_path_factory: pytest.TempPathFactory) -> RunReader:
    """A run that nobody interrupted."""
    runs = tmp_path_factory.mktemp("whole") / "runs"
    assert measure(small_file, products[0], runs) == 0
    return run_in(runs)


def assert_ends_like(run: RunReader, whole: RunReader) -> None:
    assert run.status == whole.status == "ok"
    assert run.verify().intact
    assert segments(run) == segments(whole)
    found, expected = arrays(run), arrays(whole)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    figures, expected_figures = ([(m.name, m.value) for m in r.summary().metrics] for r in (run, whole))
    assert figures == expected_figures


# dark, after the SLM's steps, after one panel's fiducials, in each ramp, in the gain scan, in the products
@pytest.mark.parametrize("sealed", everyday([1, 2, 4, 8, 12, 18, 29], 4))
def test_interrupted_run_goes_on_and_ends_the_same(
    sealed: int, whole: RunReader, small_file: Path, products, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = RunWriter.write_segment, []

    def write_until(self: RunWriter, *arguments: object) -> object:
        if len(written) == sealed:
            raise KeyboardInterrupt
        written.append(arguments)
        return write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "write_segment", write_until)
        assert measure(small_file, products[0], tmp_path) == 130
    interrupted = run_in(tmp_path)
    assert interrupted.status == "aborted"
    assert segments(interrupted) == segments(whole)[:sealed]
    assert resume(tmp_path) == 0
    assert_ends_like(run_in(tmp_path), whole)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_run_goes_on_and_ends_the_same(whole: RunReader, small_file: Path, products, tmp_path: Path) -> None:
    """SIGKILL to supervisor, guardian and worker: nothing is left that could seal the run or make anything safe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "labctl", "measure", str(products[0]), "--bench", str(small_file), "--runs",
         str(tmp_path), "--quiet", *DRIFTING],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + LIMIT_S
    while len(list(tmp_path.rglob("segments/*.h5"))) < 13:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)  # it must not start anything when it sees the others die
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait()
    while run_in(tmp_path).status == "running":  # the worker has the signal, and the kernel is still taking it down
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed = run_in(tmp_path)
    assert killed.status == "crashed"
    assert 13 <= len(killed.manifest) + 1 <= len(whole.manifest)
    assert resume(tmp_path) == 0
    assert_ends_like(run_in(tmp_path), whole)


def test_complete_run_is_not_begun_again(whole: RunReader, capsys: pytest.CaptureFixture[str]) -> None:
    runs = whole.path.parents[3]
    assert resume(runs) == 2
    assert "E-RUN-004" in capsys.readouterr().err
    assert run_in(runs).verify().intact


def test_run_that_resumes_twice_counts_every_frame_once(
    whole: RunReader, small_file: Path, products, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted again and again, every six segments."""
    write, since = RunWriter.write_segment, [0]

    def write_six(self: RunWriter, *arguments: object) -> object:
        if since[0] == 6:
            raise KeyboardInterrupt
        since[0] += 1
        return write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "write_segment", write_six)
        assert measure(small_file, products[0], tmp_path) == 130
        for _ in range(len(whole.manifest) // 6 + 1):
            since[0] = 0
            code = resume(tmp_path)
            if code == 0:
                break
            assert code == 130
    assert code == 0
    assert [line["event"] for line in run_in(tmp_path).journal()].count("resumed") >= 4
    assert_ends_like(run_in(tmp_path), whole)


@pytest.fixture
def interrupted(small_file: Path, products, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive with a run that was interrupted in its products."""
    write, written = RunWriter.write_segment, []

    def write_until(self: RunWriter, *arguments: object) -> object:
        if len(written) == 28:
            raise KeyboardInterrupt
        written.append(arguments)
        return write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "write_segment", write_until)
        assert measure(small_file, products[0], tmp_path / "runs") == 130
    return tmp_path / "runs"


def test_run_whose_steps_have_changed_does_not_go_on(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after an update of the code: its hold-out frames are others. Readings of two kinds never lie in one run."""
    before = segments(run_in(interrupted))
    monkeypatch.setattr("labctl.nodes.gain.HOLDOUT_SEED", 1)
    assert resume(interrupted) == 2
    assert "E-RUN-005" in capsys.readouterr().err
    assert segments(run_in(interrupted)) == before


def test_run_that_goes_on_late_does_not_displace_a_later_one(
    interrupted: Path, small_file: Path, products, capsys: pytest.CaptureFixture[str]
) -> None:
    early = run_in(interrupted)
    time.sleep(1.1)  # ids are by the second
    assert measure(small_file, products[0], interrupted) == 0
    later = CalibrationStore(interrupted).applied("small")
    assert main(["run", "resume", str(early.path), "--runs", str(interrupted), "--quiet"]) == 0
    found = RunReader(early.path).summary().calibration
    assert not found.applied
    assert "of the later run" in found.why
    assert CalibrationStore(interrupted).applied("small") == later
