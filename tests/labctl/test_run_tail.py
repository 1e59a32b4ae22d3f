"""``labctl run tail``: a run followed from its folder, by a process that does not write it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import LIMIT_S

from labctl.__main__ import main
from labctl.archive import RunWriter
from labctl.archive import tail as tailing
from labctl.archive.progress import Frames, Progress, ProgressFile
from labctl.archive.tail import Folded, Tail, in_words, where
from labctl.station.loading import find_station, load_station
from labctl.summary import Summary
from labctl.verdicts import Verdict


def mock_run(runs: Path) -> RunWriter:
    return RunWriter.create(runs, "test", load_station(find_station(None)))


def test_run_is_followed_from_another_process_until_it_ends(tmp_path: Path) -> None:
    with mock_run(tmp_path) as run:
        command = [sys.executable, "-m", "labctl", "run", "tail", "--runs", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == f"run {run.run_id}"
            assert process.stdout.readline().endswith("the run begins\n")
            run.journal("retry", device="camera", attempt=1, code="E-DEV-003", what="no frame")
            assert "camera, attempt 1 failed: E-DEV-003 no frame" in process.stdout.readline()
            assert process.poll() is None
            run.finish(Verdict.OK, Summary(run_id=run.run_id, verdict=Verdict.OK))
            out, err = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert (
        out.splitlines()[-1]
        == f"{run.run_id} ended: ok (exit 0)   ·   labctl run show {run.run_id[-4:]} --runs {tmp_path}"
    )
    assert "sealed as ok (exit 0)" in out.splitlines()[-2]
    assert "\r" not in out + err


def test_finished_run_is_told_and_one_document_says_how_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock_run(tmp_path) as run:
        ProgressFile(run.path).write(lambda: Progress(run.run_id, "done"))
        run.finish(Verdict.FAULT, Summary(run_id=run.run_id, verdict=Verdict.FAULT))
    assert main(["run", "tail", run.run_id[-4:], "--runs", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["status"], document["exit_code"], document["events"]) == ("fault", 20, 2)
    assert document["progress"]["state"] == "done"
    assert "the run begins" in captured.err


def test_crashed_run_is_said_to_be_crashed_and_nobody_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mock_run(tmp_path) as run:
        pass
    long_ago = time.time() - 3600
    os.utime(run.path / "journal.jsonl", (long_ago, long_ago))
    assert main(["run", "tail", "--runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"has crashed: it has no seal   ·   seal it: labctl run recover {run.run_id[-4:]} --runs {tmp_path}" in said
    assert "run resume" not in said
    (recover,) = re.findall("labctl (run recover .*)", said)
    assert main(shlex.split(recover)) == 0
    assert main(["run", "tail", "--runs", str(tmp_path)]) == 0
    assert f"ended: crashed   ·   labctl run show {run.run_id[-4:]} --runs {tmp_path}" in capsys.readouterr().out


def test_seal_that_another_process_sets_after_a_kill_is_waited_for(tmp_path: Path) -> None:
    with mock_run(tmp_path) as run:
        pass
    follower = Tail(run.path, patience_s=30)
    assert not follower.is_over()
    assert Tail(run.path, patience_s=0).is_over()

    def seal() -> None:
        with RunWriter.resume(run.path) as again:
            again.finish(Verdict.FAULT, Summary(run_id=run.run_id, verdict=Verdict.FAULT))

    sealing = threading.Thread(target=seal)
    sealing.start()
    sealing.join()
    assert follower.is_over()
    assert [line["event"] for line in follower.news()] == ["started", "resumed", "sealing"]
    assert follower.news() == []


def test_line_that_is_being_written_is_told_when_it_is_whole(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    follower = Tail(tmp_path)
    assert follower.news() == []
    journal.write_bytes(b'{"event": "started"}\n{"event": "node", "na')
    assert [line["event"] for line in follower.news()] == ["started"]
    with journal.open("ab") as stream:
        stream.write(b'me": "dark"}\nno JSON\n[]\n')
    assert [line["event"] for line in follower.news()] == ["node"]


AT = {"at": "2026-11-29T01:02:03.456Z"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"event": "node", "name": "gain", "state": "done", "check": "out_of_spec", "duration_s": 1.25,
          "reason": "bad"},
         "node gain: out of spec in 1.2 s: bad"),
        ({"event": "node", "name": "export", "state": "skipped", "duration_s": None, "reason": ""},
         "node export: skipped"),
        ({"event": "segment", "file": "000001.h5", "rows": 64, "kind": "gain", "bytes": 12345},
         "sealed 000001.h5: 64 × gain, 12 kB"),
        ({"event": "resumed", "segments": 7}, "the run goes on after 7 segments"),
        ({"event": "resumed", "device": "door", "reason": "open", "waited_s": 4.0}, "door is closed again after 4.0 s"),
        ({"event": "suspended", "device": "door", "reason": "opened"}, "suspended: door is open: opened"),
        ({"event": "reopen", "devices": ["camera"], "opened": True}, "camera: open again"),
        ({"event": "reopen", "devices": ["camera"], "opened": False, "what": "gone"}, "camera: not opened: gone"),
        ({"event": "new one", "size": 3}, "new one size 3"),
        ({"event": "retry"}, "retry"),
    ],
)  # fmt: skip
def test_events_are_told_in_words_also_those_that_nobody_knows(line: dict[str, object], words: str) -> None:
    assert in_words({**AT, **line}) == f"01:02:03  {words}"


def test_last_line_says_where_the_run_is() -> None:
    progress = {
        "state": "measuring", "node": "gain", "node_frames": vars(Frames(64, 512)),
        "run_frames": vars(Frames(300, 1200)), "frames_per_s": 58.7, "left_s": 75.2,
    }  # fmt: skip
    assert where(progress) == "measuring gain   64/512 frames   25% of the run   59 frames/s   1 min 15 s left"
    assert where({"state": "opening", "node": ""}) == "opening"


def test_every_event_that_the_code_journals_has_words() -> None:
    root = Path(tailing.__file__).parents[1]
    named = {
        name
        for path in root.rglob("*.py")
        for name in re.findall(r'\.journal\(\s*"([a-z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert named
    assert named - set(tailing._WORDS) == set()


def test_what_a_node_has_sealed_one_after_the_other_is_one_line() -> None:
    folded, said = Folded(), []
    events = [{**AT, "event": "segment", "file": f"00000{i}.h5", "rows": 16, "kind": "products", "bytes": 18000}
              for i in range(1, 4)]  # fmt: skip
    for event in [*events, {**events[0], "kind": "canary"}, {**AT, "event": "started"}]:
        said += folded.lines(event)
    assert [line.partition("  ")[2] for line in said] == [
        "sealed 000001.h5 … 000003.h5: 48 × products, 54 kB",
        "sealed 000001.h5: 16 × canary, 18 kB",
        "the run begins",
    ]
    assert folded.rest() == []


def test_a_node_without_a_quick_check_is_not_said_to_be_out_of_spec() -> None:
    said = in_words(
        {**AT, "event": "check", "node": "couplings", "verdict": "impossible", "why": "no quick check tells"}
    )
    assert said.endswith("couplings has no quick check: it is done again")
