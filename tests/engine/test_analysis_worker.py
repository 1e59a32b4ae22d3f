"""Nodes are analysed in a process of their own: the same numbers, no device, and no harm where it hangs or dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from everyday import everyday
from processes import LIMIT_S, gone, wait_for
from safetensors.numpy import load_file

from calibration.errors import BadScan
from calibration.machine.artefact import load
from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.console import Console
from labctl.engine.analyst import Desk
from labctl.engine.apart import FromAnalysis, Process
from labctl.errors import AnalysisLost
from labctl.lab import Lab
from labctl.nodes.node import Setting
from labctl.nodes.registry import EXPORT
from labctl.osal import can_supervise
from labctl.station.loading import load_station

pytestmark = pytest.mark.skipif(not can_supervise(), reason="POSIX only; see labctl.osal.can_supervise")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

Begin = Callable[..., "subprocess.Popen[str]"]

STUCK = """
import os, sys, time
if any("analysis_worker" in word for word in sys.orig_argv):
    from labctl.nodes.registration import RegistrationNode
    def stuck(self, *arguments):
        open({file!r}, "w").write(str(os.getpid()))
        time.sleep(600)
    if not os.path.exists({file!r}):
        RegistrationNode.analyse = stuck
"""


@pytest.fixture
def stuck_once(tmp_path: Path, at_start: Callable[[str], None]) -> Path:
    """The first analysis of the registration hangs; the file then says in which process."""
    file = tmp_path / "stuck"
    at_start(STUCK.format(file=str(file)))
    return file


@pytest.fixture
def begin(small_file: Path, products: tuple[Path, object], tmp_path: Path, launched: Begin) -> Begin:
    """Starts ``labctl measure`` of the small workload on the small bench."""

    def run(*options: str) -> subprocess.Popen[str]:
        command = ["measure", str(products[0]), "--bench", str(small_file), "--runs", str(tmp_path / "runs")]
        return launched(*command, "--json", *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


@pytest.fixture(scope="module")
def whole(measured_once: Path) -> RunReader:
    """A run that nobody interrupted, analysed in the process that measured it."""
    return RunReader(find_run(measured_once, "latest"))


def stuck_process(file: Path) -> int:
    wait_for(lambda: file.exists() and file.read_text())
    return int(file.read_text())


def run_in(tmp_path: Path) -> RunReader:
    return RunReader(find_run(tmp_path / "runs", "latest"))


def assert_ends_like(run: RunReader, whole: RunReader) -> None:
    assert run.status == whole.status == "ok"
    assert run.verify().intact
    assert [row.sha256 for row in run.manifest] == [row.sha256 for row in whole.manifest]
    found, expected = (load_file(Path(r.summary().calibration.path).with_suffix(".safetensors")) for r in (run, whole))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    figures, expected_figures = ([(m.name, m.value) for m in r.summary().metrics] for r in (run, whole))
    assert figures == expected_figures


def test_analysis_apart_finds_the_same_bit_for_bit(begin: Begin, whole: RunReader, tmp_path: Path) -> None:
    out, err = (process := begin()).communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert json.loads(out)["verdict"] == "ok"
    assert_ends_like(run_in(tmp_path), whole)
    assert (run_in(tmp_path).path / "report.html").exists()


AGED = "from labctl.nodes.registry import node_named\nnode_named('gain').max_age_h = 0.0\n"


@pytest.mark.slow
def test_what_holds_is_kept_checked_and_compared_there(
    small_file: Path, products, whole: RunReader, tmp_path: Path, at_start: Callable[[str], None]
) -> None:
    """The gain is old, and gets a quick check; products are measured anew, and the gate compares."""
    from labctl.engine.refit import refit  # not above: the other process imports this module, and refit reaches a bench

    shutil.copytree(whole.path.parents[3], runs := tmp_path / "runs")
    at_start(AGED)
    words = ["calibrate", "maintain", "export", "--workload", str(products[0]), "--bench", str(small_file), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "labctl", *words, "--runs", str(runs)],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = run_in(tmp_path)
    found = run.summary()
    assert run.run_id != whole.run_id
    states = {node.name: node.state for node in found.nodes}
    assert (states["dark"], states["gain"], states["validation"]) == ("kept", "checked", "done")
    assert found.calibration.compared.id == whole.summary().calibration.id
    again = refit(Lab(Console(quiet=True)), run.path)
    assert found.validation == again.summary.validation
    exported = load(Path(found.calibration.path))
    here = again.walk.analyse(EXPORT)
    np.testing.assert_array_equal(exported.machine.channel.gain_dn, here.machine.channel.gain_dn)


@linux
@pytest.mark.parametrize(
    ("number", "words"),
    everyday(
        [
            (signal.SIGKILL, "died of SIGKILL"),
            (signal.SIGSEGV, "died of SIGSEGV"),
            (signal.SIGSTOP, "no progress for 12 s"),
        ],
        0,
    ),
)
def test_analysis_that_dies_or_hangs_costs_nothing_and_the_run_goes_on(
    number: int, words: str, begin: Begin, stuck_once: Path, whole: RunReader, tmp_path: Path
) -> None:
    process = begin("--set", "acquisition.stall_s=12.0")
    analysis = stuck_process(stuck_once)
    os.kill(analysis, number)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 20, err
    document = json.loads(out)
    assert (document["verdict"], document["first_error"]["code"]) == ("fault", "E-STL-002")
    assert words in err
    assert "labctl run resume" in err
    assert gone(analysis)
    run = run_in(tmp_path)
    assert run.status == "fault"
    assert run.verify().intact
    assert not (run.path / "snapshot-end.json").exists()
    assert not [line for line in run.journal() if line["event"] == "stalled"]  # nobody had to end the bench worker
    if number == signal.SIGKILL:  # what the bench has sealed is the same however the analysis ended
        assert main(["run", "resume", "latest", "--runs", str(tmp_path / "runs"), "--quiet"]) == 0
        assert_ends_like(run_in(tmp_path), whole)


@linux
def test_analysis_that_hangs_says_what_its_threads_did(begin: Begin, stuck_once: Path, tmp_path: Path) -> None:
    process = begin("--set", "acquisition.stall_s=12.0")
    analysis = stuck_process(stuck_once)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 20, err
    assert "E-STL-002" in err
    assert "stuck" in (run_in(tmp_path).path / "threads.txt").read_text()
    assert run_in(tmp_path).verify().intact
    assert gone(analysis)


@linux
@pytest.mark.parametrize(("number", "code"), everyday([(signal.SIGINT, 130), (signal.SIGTERM, 143)], 0))
def test_stop_during_an_analysis_ends_it_at_once(
    number: int, code: int, begin: Begin, stuck_once: Path, tmp_path: Path
) -> None:
    process = begin()
    analysis = stuck_process(stuck_once)
    process.send_signal(number)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, err
    assert run_in(tmp_path).status == "aborted"
    assert gone(analysis)


@linux
@pytest.mark.parametrize("stopped", everyday([False, True], 1))
def test_analysis_does_not_outlive_the_process_at_the_bench(
    stopped: bool, begin: Begin, stuck_once: Path, tmp_path: Path
) -> None:
    process = begin()
    analysis = stuck_process(stuck_once)
    if stopped:
        os.kill(analysis, signal.SIGSTOP)
    bench = int(Path(f"/proc/{analysis}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(bench, signal.SIGKILL)
    wait_for(lambda: gone(analysis))
    assert process.wait(LIMIT_S) == 20


def loaded_modules(desk: Desk) -> list[str]:
    from labctl.report import page

    assert page.write_report
    return sorted(sys.modules)


def fail(desk: Desk) -> None:
    raise BadScan("no light", seen="0 DN", hint="look at the shutter")


def hide(desk: Desk) -> object:
    return lambda: desk


def end(desk: Desk) -> None:
    os._exit(3)


@pytest.fixture
def process(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, Path(__file__).parents[:2])), prepend=os.pathsep)
    process = Process(tmp_path, stall_s=30.0)
    yield process
    process.close()


@pytest.fixture
def setting(small_file: Path) -> Setting:
    return Setting.on(load_station(small_file).station)


def test_process_that_analyses_loads_nothing_that_reaches_a_device(process: Process, setting: Setting) -> None:
    modules = process.desk(setting).ask(loaded_modules)
    assert "labctl.nodes.validation" in modules
    assert "labctl.report.page" in modules
    reaching = ("mock_hardware", "drivers.cameras", "drivers.modulators",
                "labctl.bench.bench", "labctl.bench.acquirer", "torch")  # fmt: skip
    assert [name for name in modules if name.startswith(reaching)] == []


def test_error_of_an_analysis_comes_through_with_its_traceback(process: Process, setting: Setting) -> None:
    desk = process.desk(setting)
    with pytest.raises(BadScan, match="no light") as raised:
        desk.ask(fail)
    assert (raised.value.seen, raised.value.hint) == ("0 DN", "look at the shutter")
    assert isinstance(raised.value.__cause__, FromAnalysis)
    assert "in fail" in str(raised.value.__cause__)
    with pytest.raises(Exception, match="pickle"):
        desk.ask(hide)
    assert desk.ask(loaded_modules)  # it goes on


def test_analysis_that_ended_answers_nothing_more(process: Process, setting: Setting) -> None:
    desk = process.desk(setting)
    for words in ("ended with exit code 3", "has ended before"):
        with pytest.raises(AnalysisLost, match=words) as raised:
            desk.ask(end)
        assert "labctl run resume" in raised.value.hint
