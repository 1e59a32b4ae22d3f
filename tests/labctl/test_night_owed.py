"""Endings of nights that had none: made up for, once; and nights that could not read their station, or never began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest
from processes import LIMIT_S, wait_for

from labctl import units
from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter
from labctl.archive.progress import SCHEMA
from labctl.bench.lock import hold_bench
from labctl.bench.marks import write_mark
from labctl.console import Console
from labctl.engine.session import open_session
from labctl.lab import Lab
from labctl.night import ending, owed
from labctl.night import notify as module
from labctl.night.notify import WEEKLY, message_of, notify
from labctl.night.owed import NightBench, Owed
from labctl.osal import can_supervise
from labctl.station.loading import LoadedStation, load_station
from labctl.station.model import Nightly
from labctl.station.secrets import secrets_path
from labctl.summary import FirstError, Summary, read_summary
from labctl.verdicts import Verdict


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own; nobody sits at a terminal."""
    for variable in ("XDG_STATE_HOME", "LOCALAPPDATA", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "state"))
    monkeypatch.setattr("labctl.night.ending.is_attended", lambda: False)
    return tmp_path / "state"


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedStation:
    """A station whose messages are lines of a file."""
    into = f"import sys; open({str(tmp_path / 'said')!r}, 'a').write(sys.stdin.readline())"
    (tmp_path / "collector").mkdir()
    (path := tmp_path / "a.toml").write_text(
        '[bench]\nname = "a"\n[nightly]\n'
        f"notify = {json.dumps([sys.executable, '-c', into])}\n"
        f"metrics_folder = {json.dumps(str(tmp_path / 'collector'))}\n"
    )
    return load_station(path)


def said(folder: Path) -> list[str]:
    path = folder / "said"
    return path.read_text().splitlines() if path.exists() else []


def lines(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "runs" / "night.jsonl").read_text().splitlines()]


def killed(loaded: LoadedStation, runs: Path) -> tuple[Owed, Path]:
    """A night that was killed with all that watched it: its run has no seal, and its ending is owed."""
    with RunWriter.create(runs, "nightly", loaded) as run:
        pass
    return owes(loaded, runs, "one", run.path), run.path


def owes(loaded: LoadedStation, runs: Path, token: str, run: Path | None = None) -> Owed:
    """A night that had the bench, and whose ending nobody does."""
    owed.owe(night := Owed(NightBench.of(loaded), runs, run, token=token))
    return night


def test_night_that_was_killed_with_its_supervisor_has_its_ending_once(loaded: LoadedStation, tmp_path: Path) -> None:
    _, run = killed(loaded, tmp_path / "runs")
    warned: list[str] = []
    assert ending.make_up("a", warned.append)
    assert RunReader(run).status == "crashed"
    assert said(tmp_path) == ["a: crashed (new)"]
    assert "labctl_run" in (tmp_path / "collector" / "labctl-a.prom").read_text()
    assert [(line["step"], line["run"]) for line in lines(tmp_path)] == [("ending", run.name)]
    assert "made up for" in warned[0]
    assert not ending.make_up("a", warned.append)
    assert (len(said(tmp_path)), len(lines(tmp_path)), len(warned)) == (1, 1, 1)


def test_message_of_a_killed_night_says_where_it_was_that_the_light_may_be_on_and_how_it_goes_on(
    tmp_path: Path, labctl: Callable[..., tuple[int, str, str]]
) -> None:
    into = f"import sys; open({str(tmp_path / 'all')!r}, 'w').write(sys.stdin.read())"
    (path := tmp_path / "b.toml").write_text(
        f'[bench]\nname = "b"\n[nightly]\nnotify = {json.dumps([sys.executable, "-c", into])}\n'
    )
    runs, loaded = tmp_path / "runs", load_station(path)
    with RunWriter.create(runs, "nightly", loaded, {"job": {"command": "nightly"}}) as run:
        where = {"schema": SCHEMA, "state": "measuring", "node": "gain"}
        (run.path / "progress.json").write_text(json.dumps(where))
    owes(loaded, runs, "one", run.path)
    short = run.run_id.rpartition("-")[2]
    expected = (
        "killed with its supervisor while measuring gain",
        "the light may have been left on: look",
        f"labctl run resume {short} --runs {runs}",
    )
    _, before, _ = labctl("run", "show", short, "--runs", str(runs))
    assert ending.make_up("b", lambda words: None)
    _, after, _ = labctl("run", "show", short, "--runs", str(runs))
    for text in ((tmp_path / "all").read_text(), before, after):
        for words in expected:
            assert words in text
    assert "no seal found" not in (tmp_path / "all").read_text()


@pytest.mark.skipif(not can_supervise(), reason="no night runs there")
@pytest.mark.parametrize("options", [[], ["--checked"]])
def test_bench_that_is_made_safe_by_hand_makes_up_for_the_night_that_left_it(
    loaded: LoadedStation, tmp_path: Path, options: list[str]
) -> None:
    killed(loaded, tmp_path / "runs")
    write_mark(loaded.station)
    assert main(["bench", "safe", "a", "--left-open"]) == 0
    assert said(tmp_path) == []
    write_mark(loaded.station)
    assert main(["bench", "safe", "a", *options]) == 0
    assert said(tmp_path) == ["a: crashed (new)"]


def test_night_that_goes_on_after_a_message_is_named_with_its_command(tmp_path: Path) -> None:
    summary = Summary(bench="a", run_id="20261123T020003Z-nightly-k7f2", verdict=Verdict.PARTIAL)
    body = message_of(Path("/lab/runs"), "a", summary, WEEKLY).body
    assert "go on: labctl run resume k7f2 --runs /lab/runs" in body
    refused = Summary(bench="a", verdict=Verdict.USAGE, first_error=FirstError(code="E-USE-001", message="m", hint="h"))
    body = message_of(Path("/lab/runs"), "a", refused, "new", "/lab/a b.toml").body
    assert "try: h" in body
    assert "look further: labctl nightly status --bench '/lab/a b.toml' --runs /lab/runs" in body
    for code in ("E-CFG-001", "E-CAL-001"):
        again = summary.model_copy(update={"first_error": FirstError(code=code, message="m"), "verdict": Verdict.FAULT})
        assert "resume" not in message_of(Path("/lab/runs"), "a", again, "new").body


def test_ending_that_comes_after_it_was_made_up_for_is_not_done_again(loaded: LoadedStation, tmp_path: Path) -> None:
    night, run = killed(loaded, tmp_path / "runs")
    assert ending.make_up("a", lambda words: None)
    ending.main(["20", str(run), night.to_json()])
    assert said(tmp_path) == ["a: crashed (new)"]
    later = owes(loaded, tmp_path / "runs", "two")
    ending.main(["20", str(run), night.to_json()])
    assert owed.owed_by("a") == [later]


def test_ending_that_was_cut_off_after_its_message_does_not_repeat_it(loaded: LoadedStation, tmp_path: Path) -> None:
    night, _ = killed(loaded, tmp_path / "runs")
    assert ending.make_up("a", lambda words: None)
    owed.owe(night)  # as a kill before the last step leaves it
    assert ending.make_up("a", lambda words: None)
    assert said(tmp_path) == ["a: crashed (new)"]


def test_ending_that_another_process_does_is_not_waited_for(loaded: LoadedStation, tmp_path: Path) -> None:
    killed(loaded, tmp_path / "runs")
    with owed.turn("a") as is_ours:
        assert is_ours
        began_s = time.monotonic()
        assert not ending.make_up("a", lambda words: None)
        assert time.monotonic() - began_s < owed.TURN_S / 2
    assert said(tmp_path) == []
    assert owed.owed_by("a")


def test_ending_that_is_done_late_leaves_what_the_next_night_owes(loaded: LoadedStation, tmp_path: Path) -> None:
    first, _ = killed(loaded, tmp_path / "runs")
    second = owes(loaded, tmp_path / "runs", "two")
    assert owed.owed_by("a") == [first, second]
    owed.paid(first)
    assert owed.owed_by("a") == [second]
    owed.paid(second)
    assert owed.owed_by("a") == []


CLAIMS = """
import sys, time
from labctl.night import owed
assert owed.claim(owed.owed_from(sys.argv[1]))
print("claimed", flush=True)
time.sleep(60)
"""


def test_ending_is_made_up_for_only_when_whoever_was_to_do_it_is_gone(loaded: LoadedStation, tmp_path: Path) -> None:
    night, _ = killed(loaded, tmp_path / "runs")
    process = subprocess.Popen([sys.executable, "-c", CLAIMS, night.to_json()], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    assert not ending.make_up("a", lambda words: None)
    assert said(tmp_path) == []
    process.kill()
    process.communicate()
    assert ending.make_up("a", lambda words: None)
    assert said(tmp_path) == ["a: crashed (new)"]
    assert not [path for path in (tmp_path / "state").rglob("owed/*/*") if path.is_file()]


def test_night_that_goes_on_waits_for_the_ending_that_its_supervisor_has_still_to_do(
    loaded: LoadedStation, tmp_path: Path
) -> None:
    night, run = killed(loaded, tmp_path / "runs")
    words = [sys.executable, "-c", CLAIMS.replace("60", "2"), night.to_json()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        with ending.ending_of_resumed(Lab(Console(quiet=True)), loaded, tmp_path / "runs", run):
            assert not owed.is_claimed(night)
            assert owed.owed_by("a") == [night]  # as nobody did it: whoever has the bench makes up for it


def test_night_is_found_from_any_folder(loaded: LoadedStation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    of_night = ending.Ending(Lab(Console(quiet=True)), NightBench.of(loaded), Path("runs"))
    of_night.is_owed(Path("runs") / "one")
    (night,) = owed.owed_by("a")
    assert (night.runs, night.run) == (tmp_path / "runs", tmp_path / "runs" / "one")
    assert owed.is_claimed(night)
    of_night.follows()
    assert not owed.is_claimed(night)


@pytest.mark.skipif(not can_supervise(), reason="POSIX only; see labctl.osal.can_supervise")
def test_command_that_waits_for_the_bench_leaves_the_ending_to_the_night_itself(
    loaded: LoadedStation, tmp_path: Path
) -> None:
    """Through the processes: the bench is free, and taken, some time before the night's ending begins."""
    words = ["nightly", "run", "--bench", str(loaded.path), "--runs", str(tmp_path / "runs")]
    night = subprocess.Popen(
        [sys.executable, "-m", "labctl", *words, "--workload", str(tmp_path / "none.h5")], stdin=subprocess.DEVNULL
    )
    wait_for(lambda: owed.owed_by("a"))
    with hold_bench("a", "somebody", wait_s=LIMIT_S):
        assert not ending.make_up("a", lambda words: None)
        owes(loaded, tmp_path / "runs", "the next night's")
    assert night.wait(LIMIT_S) == 2
    assert said(tmp_path) == ["a: usage (new)"]
    assert not (tmp_path / "runs" / "night.jsonl").exists()
    assert [one.token for one in owed.owed_by("a")] == ["the next night's"]


def test_night_that_was_killed_before_it_had_a_run_counts_as_crashed(loaded: LoadedStation, tmp_path: Path) -> None:
    owes(loaded, tmp_path / "runs", "one")
    assert ending.make_up("a", lambda words: None)
    assert said(tmp_path) == ["a: crashed (new)"]


def test_night_whose_run_is_gone_or_damaged_has_its_ending(loaded: LoadedStation, tmp_path: Path) -> None:
    _, run = killed(loaded, tmp_path / "runs")
    (run / "run.json").write_text("{")
    assert ending.make_up("a", lambda words: None)
    assert said(tmp_path) == ["a: crashed (new)"]


def test_summary_of_a_night_that_cannot_be_read_does_not_silence_it(loaded: LoadedStation, tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "runs", "nightly", loaded) as run:
        run.finish(Verdict.OK, Summary(run_id=run.run_id, bench="a", verdict=Verdict.OK))
    (run.path / "summary.json").write_text("{")
    night = owes(loaded, tmp_path / "runs", "one", run.path)
    ending.main(["0", str(run.path), night.to_json()])
    assert said(tmp_path) == ["a: crashed (new)"]


def test_next_command_on_the_bench_makes_up_for_it(loaded: LoadedStation, tmp_path: Path) -> None:
    killed(loaded, tmp_path / "runs")
    lab = Lab(Console(quiet=True), made_up_for=lambda lab, bench: ending.make_up(bench, lab.console.warn) or None)
    with suppress(KeyboardInterrupt), open_session(lab, loaded, tmp_path / "runs", "measure"):
        assert said(tmp_path) == ["a: crashed (new)"]
        raise KeyboardInterrupt


def test_run_recover_makes_up_for_it(loaded: LoadedStation, tmp_path: Path) -> None:
    _, run = killed(loaded, tmp_path / "runs")
    words = ["run", "recover", run.name, "--runs", str(tmp_path / "runs"), "--quiet"]
    with hold_bench("a", "somebody"):
        assert main(words) == 0
    assert said(tmp_path) == []  # who has the bench does it
    assert main(words) == 0
    assert said(tmp_path) == ["a: crashed (new)"]


@pytest.mark.parametrize("damage", ["missing", "not TOML", "unknown key", "wrong --set"])
def test_night_that_cannot_read_its_station_tells_whom_the_last_one_told(
    damage: str, loaded: LoadedStation, tmp_path: Path
) -> None:
    owed.remember(NightBench.of(loaded))
    option = ["--set", "layout.rows=many"] if damage == "wrong --set" else []
    if damage == "missing":
        loaded.path.unlink()
    elif not option:
        loaded.path.write_text("[bench\n" if damage == "not TOML" else "[bench]\nnmae = 'a'\n")
    words = ["nightly", "run", "--bench", str(loaded.path), "--runs", str(tmp_path / "runs"), "--quiet", *option]
    for _ in range(3):
        assert main(words) == 2
    assert said(tmp_path) == ["a: usage (new)", "a: usage (again)"]
    assert [(line["bench"], line["step"]) for line in lines(tmp_path)] == [("a", "station")] * 3
    assert lines(tmp_path)[0]["failed"].startswith(("E-USE-001", "E-CFG-001"))


def test_station_that_was_never_read_leaves_a_line_in_the_archive(tmp_path: Path) -> None:
    assert main(["nightly", "run", "--bench", str(tmp_path / "b.toml"), "--runs", str(tmp_path / "runs")]) == 2
    assert [(line["bench"], line["step"]) for line in lines(tmp_path)] == [("b", "station")]


def test_whoever_mistypes_at_a_terminal_wakes_nobody(
    loaded: LoadedStation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.night.ending.is_attended", lambda: True)
    owed.remember(NightBench.of(loaded))
    loaded.path.write_text("[bench\n")
    assert main(["nightly", "run", "--bench", str(loaded.path), "--runs", str(tmp_path / "runs")]) == 2
    assert said(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="systemd is of Linux")
def test_night_that_never_began_is_told_once_for_each_start(
    loaded: LoadedStation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--bench", str(loaded.path), "--runs", str(tmp_path / "runs"), "--quiet"]
    assert main(["service", "install", "--as", "systemd", *words]) == 0
    answer = "Result=exit-code\nExecMainStatus=2\nInvocationID=one\n"
    monkeypatch.setattr(units, "ask", lambda *words: answer)
    monkeypatch.setenv(owed.INVOCATION, "of the unit that tells")
    for _ in range(2):
        assert main(["service", "failed", "labctl-night-a.service"]) == 0
    assert said(tmp_path) == ["a: crashed (new)"]
    assert [line["step"] for line in lines(tmp_path)] == ["start"]


@pytest.mark.skipif(sys.platform == "win32", reason="systemd is of Linux")
def test_night_whose_whole_service_was_killed_has_its_ending_at_once(
    loaded: LoadedStation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--bench", str(loaded.path), "--runs", str(tmp_path / "runs"), "--quiet"]
    assert main(["service", "install", "--as", "systemd", *words]) == 0
    _, run = killed(loaded, tmp_path / "runs")
    monkeypatch.setattr(units, "ask", lambda *words: "Result=watchdog\nExecMainStatus=6\nInvocationID=two\n")
    assert main(["service", "failed", "labctl-night-a.service"]) == 0
    assert said(tmp_path) == ["a: crashed (new)"]
    assert lines(tmp_path)[0]["run"] == run.name


def test_secrets_stand_in_nothing_that_is_kept(
    state: Path, loaded: LoadedStation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", "https://example.org/open-sesame")
    bench = NightBench("a", Nightly(webhook_env="HOOK"), str(loaded.path))
    owed.remember(bench)
    owed.owe(Owed(bench, tmp_path, token="one"))
    kept = "".join(path.read_text() for path in (state / "labctl" / "nights").rglob("*.json"))
    assert "HOOK" in kept
    assert "sesame" not in kept


def test_night_that_finds_its_bench_in_use_counts_as_busy(loaded: LoadedStation, tmp_path: Path) -> None:
    """Through the processes: the supervisor refuses it before it starts a worker, and its ending is a third."""
    words = ["nightly", "run", "--bench", str(loaded.path), "--runs", str(tmp_path / "runs")]
    with hold_bench("a", "labctl measure"):
        done = subprocess.run([sys.executable, "-m", "labctl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    path = tmp_path / "runs" / "nights" / "a.json"
    wait_for(path.exists)
    assert json.loads(path.read_text())["busy"] == 1


def test_state_folder_that_cannot_be_written_keeps_nobody_from_being_told(
    loaded: LoadedStation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(owed, "take", refused)
    monkeypatch.setattr(owed, "atomic_write_bytes", refused)
    summary = Summary(bench="a", verdict=Verdict.FAULT, exit_code=20)
    night = Owed(NightBench.of(loaded), tmp_path / "runs", summary=summary, start="one")
    assert ending.main(["20", "", night.to_json()]) == 0
    assert len(said(tmp_path)) == 1


def test_night_below_a_folder_whose_name_is_no_text_is_owed_and_read_again() -> None:
    archive = Path(os.fsdecode(b"/data/bad\xff/runs"))
    summary = Summary(bench="a", verdict=Verdict.FAULT, first_error=FirstError(code="E-X", message=str(archive)))
    night = Owed(NightBench("a", station=str(archive)), archive, archive / "one", summary, token="one")
    assert owed.owed_from(night.to_json()) == night
    owed.owe(night)
    owed.remember(night.bench)
    assert owed.owed_by("a") == [night]
    assert owed.known("a") == night.bench


def test_summary_with_a_name_that_is_no_text_is_written_and_read(tmp_path: Path) -> None:
    error = FirstError(code="E-X", message=os.fsdecode(b"bad\xff"))
    summary = Summary(bench="a", verdict=Verdict.FAULT, first_error=error)
    (tmp_path / "summary.json").write_text(summary.to_json())
    assert read_summary(tmp_path / "summary.json") == summary


def test_message_of_a_night_below_such_a_folder_is_sent(tmp_path: Path) -> None:
    archive = tmp_path / os.fsdecode(b"bad\xff")
    into = f"import sys; open({str(tmp_path / 'said')!r}, 'wb').write(sys.stdin.buffer.read())"
    notify(archive, Nightly(notify=[sys.executable, "-c", into]), Summary(bench="a", verdict=Verdict.FAULT))
    assert b"bad\xff" in (tmp_path / "said").read_bytes()


@pytest.mark.parametrize("kind", ["pipe", "deep"])
def test_what_is_kept_of_nights_is_never_waited_for(kind: str, state: Path, tmp_path: Path) -> None:
    """A pipe in the place of a file would never answer; brackets without end would break the reader."""
    nights = state / "labctl" / "nights"
    places = [nights / "a.json", nights / "owed" / "a" / "one.json", tmp_path / "runs" / "nights" / "a.json"]
    for path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.write_text("[" * 100_000)
    assert owed.known("a") is None
    assert owed.known_by_station(Path("a.toml")) is None
    assert owed.owed_by("a") == []
    assert module._read(tmp_path / "runs", "a") == module.BenchState()


def test_ending_has_the_variables_of_the_file_of_secrets(loaded: LoadedStation, tmp_path: Path) -> None:
    into = "import os; open(os.environ['ENDING_SAYS_INTO'], 'w').close()"
    loaded = load_station(loaded.path, [f"nightly.notify={json.dumps([sys.executable, '-c', into])}"])
    killed(loaded, tmp_path / "runs")
    path = secrets_path("a")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"ENDING_SAYS_INTO={tmp_path / 'into'}\n")
    path.chmod(0o600)
    with patch.dict(os.environ):
        assert ending.make_up("a", lambda words: None)
    assert (tmp_path / "into").exists()
