"""What the live page shows of an archive, and that it leaves the archive as it was."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from processes import LIMIT_S

pytest.importorskip("starlette", reason="the live page needs labctl[web]")
from starlette.testclient import TestClient

from labctl import locks
from labctl.archive import RunWriter
from labctl.archive.preview import PREVIEW, PreviewFile, Seen
from labctl.archive.progress import Frames, Progress, ProgressFile
from labctl.archive.rows import INDEX
from labctl.locks import BenchFiles, Holder
from labctl.summary import CalibrationRef, FirstError, Metric, Summary, Validation
from labctl.verdicts import Verdict
from labctl.web.app import PARTS, make_app
from labctl.web.catalogue import Catalogue
from labctl.web.hub import Hub
from labctl.web.kept import Kept
from labctl.web.now import Watcher
from labctl.web.serving import Serving

HERE = "http://localhost:8642"
NewRun = Callable[[], RunWriter]
EVIL = "<img src=x onerror=alert(1)>\"'&"


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.archive.run.code_provenance", lambda sources: {})


@pytest.fixture
def page(runs: Path) -> TestClient:
    return TestClient(make_app(Serving(runs), spacing_s=0.0), base_url=HERE)


def at(run: RunWriter, node: str, done: int, total: int = 400) -> None:
    """The run says that it is there."""
    progress = Progress(run.run_id, "measuring", node, "probe", Frames(done, total), Frames(done, 2 * total), 59.9, 12)
    ProgressFile(run.path).write(lambda: progress, at_once=True)


def see(run: RunWriter, level: int, *, saturated: int = 0) -> None:
    """The camera has seen something."""
    frame = np.full((60, 80), level, np.uint16)
    frame.ravel()[:saturated] = 4095
    corners = np.array([[[10, 10], [40, 10], [40, 20], [10, 20]]], np.float32)
    file = PreviewFile(run.path)
    file.offer(Seen(frame, 5, 6, 4095, 17, "probe", lambda: corners))
    file.close()


def sealed(run: RunWriter, verdict: Verdict = Verdict.OK, **parts: object) -> str:
    run.finish(verdict, Summary(run_id=run.run_id, bench="mock", verdict=verdict, **parts))  # type: ignore[arg-type]
    run.close()
    return run.run_id


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything in a folder, with times and sizes."""
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_empty_or_missing_archive_says_what_to_type(page: TestClient, runs: Path) -> None:
    assert "labctl demo" in page.get("/").text
    assert "labctl demo" in page.get("/runs").text
    assert "labctl nightly run" in page.get("/nights").text
    assert not runs.exists()


def test_running_job_is_followed_to_its_report(page: TestClient, new_run: NewRun) -> None:
    run = new_run()
    at(run, "lut", 100)
    text = page.get("/").text
    assert "▶</span> running" in text
    assert 'value="100" max="800"' in text
    assert "59.9 frames/s" in text
    at(run, "lut", 300)
    assert 'value="300" max="800"' in page.get("/").text
    run.journal("node", name="lut", state="done", check="in_spec", duration_s=2.5, reason="")
    at(run, "gain", 0)
    text = page.get("/").text
    assert '<li class="done"><b>lut</b> <small>in spec, 2.5 s</small>' in text
    assert '<li class="now"><b>gain</b>' in text
    (run.path / "report.html").write_text("<h1>the report</h1>")
    sealed(run)
    text = page.get("/").text
    assert "✓</span> ok" in text
    assert f'href="/runs/{run.run_id}/report"' in text


def test_fault_is_shown_until_the_run_goes_on(page: TestClient, new_run: NewRun) -> None:
    run = new_run()
    at(run, "gain", 10)
    assert 'class="alarm"' not in page.get("/").text
    run.journal("suspended", device="door", reason="open")
    assert "suspended: door is open" in page.get("/").text.partition('class="alarm"')[2]
    run.journal("resumed", device="door", reason="open", waited_s=3.0)
    assert 'class="alarm"' not in page.get("/").text
    run.journal("fault", device="camera", code="E-DEV-003", what="no frame", tried=[])
    assert "FAULT camera: E-DEV-003 no frame" in page.get("/").text.partition('class="alarm"')[2]


def test_what_ended_a_run_stands_on_top_with_what_to_type(page: TestClient, new_run: NewRun) -> None:
    run = new_run()
    at(run, "lut", 10)
    error = FirstError(code="E-CAL-003", message="saturated pixels", device="camera", hint="shorten the exposure")
    sealed(run, Verdict.FAULT, first_error=error)
    alarm = page.get("/").text.partition('class="alarm"')[2].partition("</p>")[0]
    assert "E-CAL-003 camera: saturated pixels" in alarm
    assert "shorten the exposure" in alarm
    assert "labctl run resume" not in page.get("/").text  # it says of no job what it was to do
    run.update(job={"command": "calibrate"})
    assert f"labctl run resume {run.run_id[-4:]}" in page.get("/").text


def test_run_whose_process_is_gone_is_not_called_running(
    page: TestClient, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()
    at(run, "gain", 10)
    run.close()
    monkeypatch.setattr("labctl.web.now.process_lives", lambda process: False)
    text = page.get("/").text
    assert "crashed" in text
    assert "running" not in text


def test_bench_is_in_use_free_or_left_unsafe(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bench-a", "bench-b", "bench-c"):
        BenchFiles(name).lock.parent.mkdir(parents=True, exist_ok=True)
        BenchFiles(name).lock.touch()
    holder = Holder.now("bench-b", os.getpid(), "labctl nightly")
    holder.write_down()
    mark = {"process": 2**30, "since": "2026-11-29T02:00:00Z", "run": "", "station": ""}
    BenchFiles("bench-c").mark.write_text(json.dumps(mark))
    try:
        text = page.get("/").text
        rows = {
            name: text.partition(f"<b>{name}</b>")[2].partition("</li>")[0]
            for name in ("bench-a", "bench-b", "bench-c")
        }
        assert "free" in rows["bench-a"]
        assert f"process {os.getpid()}" in rows["bench-b"]
        assert "labctl bench safe bench-c" in rows["bench-c"]
    finally:
        for name in ("bench-a", "bench-b", "bench-c"):
            for file in (BenchFiles(name).lock, BenchFiles(name).note, BenchFiles(name).mark):
                file.unlink(missing_ok=True)


def test_camera_shows_picture_regions_histogram_and_saturation(page: TestClient, new_run: NewRun) -> None:
    run = new_run()
    assert "No picture yet" in page.get("/").text
    assert page.get(f"/runs/{run.run_id}/camera.png").status_code == 404
    see(run, 100, saturated=7)
    text = page.get("/").text
    assert '<polygon points="5.5,4.5 35.5,4.5 35.5,14.5 5.5,14.5"/>' in text
    assert '<svg class="histogram"' in text
    assert "7</span> (0.15%)" in text
    assert "4,095 of 4,095 DN" in text
    first = page.get(f"/runs/{run.run_id}/camera.png")
    assert first.headers["content-type"] == "image/png"
    assert first.content.startswith(b"\x89PNG")
    assert page.get(f"/runs/{run.run_id}/saturated.png").content.startswith(b"\x89PNG")
    see(run, 200)
    assert page.get(f"/runs/{run.run_id}/camera.png").content != first.content


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04garbage", b"\x93NUMPY"])
def test_picture_that_cannot_be_read_is_none(page: TestClient, new_run: NewRun, raw: bytes) -> None:
    run = new_run()
    (run.path / PREVIEW).write_bytes(raw)
    assert "No picture yet" in page.get("/").text
    assert page.get(f"/runs/{run.run_id}/camera.png").status_code == 404
    assert page.get(f"/runs/{run.run_id}").status_code == 200


def test_run_page_has_verdict_figures_events_and_files(page: TestClient, new_run: NewRun) -> None:
    run = new_run()
    run.write_segment("dark", {"frames": np.arange(6.0)})
    metrics = [Metric.judge("nrmse", 0.2, "1", maximum=0.1), Metric.judge("dark_level", 64.0, "DN")]
    validation = Validation(products=96, nrmse=0.2, r2=0.9, effective_bits=5.2, chi2_per_dof=1.1, coverage95=0.94)
    error = FirstError(code="E-SPC-001", message="nrmse beyond its limit", hint="labctl run show k7f2")
    calibration = CalibrationRef(id="cal-1", path="x")
    run_id = sealed(
        run, Verdict.OUT_OF_SPEC, metrics=metrics, validation=validation, first_error=error, calibration=calibration
    )
    text = page.get(f"/runs/{run_id}").text
    assert "✗</span> out of spec" in text
    assert "valid measurement, the bench fails its limits" in text
    assert "5.2</b>effective bits" in text
    assert "E-SPC-001" in text
    assert text.index("nrmse") < text.index("dark level")
    assert f'href="/runs/{run_id}/files/segments/000000.h5"' in text
    assert "sealed as out_of_spec" in text


def test_file_is_fetched_as_it_is_and_never_shown(page: TestClient, new_run: NewRun) -> None:
    run = new_run()
    run.write_segment("dark", {"frames": np.arange(6.0)})
    for name in ("run.json", "segments/000000.h5"):
        answer = page.get(f"/runs/{run.run_id}/files/{name}")
        assert answer.content == (run.path / name).read_bytes()
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment;")
        head = page.head(f"/runs/{run.run_id}/files/{name}")
        assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))


@pytest.mark.parametrize(
    "name",
    ["../outside", "segments/../../outside", "%2e%2e/outside", "..%2foutside", "%2e%2e%2foutside", "/etc/passwd",
     "%2fetc%2fpasswd", "link", "folder/outside", ".lock", "half.tmp", "segments", "", "C:%5cwindows", "..%5coutside",
     "run.json%00", "nothing", "pipe", "//run.json"],
)  # fmt: skip
def test_no_name_leads_out_of_the_run(page: TestClient, new_run: NewRun, name: str) -> None:
    run = new_run()
    (run.path.parent / "outside").write_text("secret")
    (run.path / "link").symlink_to(run.path.parent / "outside")
    (run.path / "folder").symlink_to(run.path.parent)
    (run.path / "half.tmp").write_text("half")
    os.mkfifo(run.path / "pipe")
    answer = page.get(f"{HERE}/runs/{run.run_id}/files/{name}")
    assert answer.status_code == 404
    assert "secret" not in answer.text


@pytest.mark.parametrize("run_id", ["%2e%2e%2f", "x", "20261129T000000Z-demo-zzzz", "calibrations", "..%2f..%2fetc"])
def test_no_name_leads_to_what_is_no_run(page: TestClient, new_run: NewRun, run_id: str) -> None:
    new_run()
    for path in ("", "/report", "/camera.png", "/files/run.json"):
        assert page.get(f"/runs/{run_id}{path}").status_code == 404


def test_what_stands_in_a_run_folder_is_text_and_no_page(page: TestClient, new_run: NewRun) -> None:
    run = new_run()
    at(run, EVIL, 10)
    run.journal("fault", device=EVIL, code=EVIL, what=EVIL, tried=[])
    run.journal("node", name=EVIL, state="done", check=None, duration_s=1.0, reason=EVIL)
    (run.path / "a<b>&.txt").write_text("x")
    texts = [page.get("/").text, page.get(f"/runs/{run.run_id}").text, page.get("/runs", params={"part": EVIL}).text]
    run.update(bench=EVIL, purpose=EVIL, mode=EVIL)
    error = FirstError(code=EVIL, message=EVIL, device=EVIL, hint=EVIL)
    sealed(run, Verdict.FAULT, metrics=[Metric.judge(EVIL, 1.0, EVIL)], first_error=error)
    texts += [page.get(path).text for path in ("/", f"/runs/{run.run_id}", "/runs", "/nights", "/calibrations")]
    assert sum(text.count("&lt;img src=x onerror") for text in texts) > 10
    for text in texts:
        assert "<img src=x" not in text
        assert "<b>&.txt" not in text


def test_report_opens_and_no_script_of_it_runs(page: TestClient, new_run: NewRun) -> None:
    run = new_run()
    assert page.get(f"/runs/{run.run_id}/report").status_code == 404
    (run.path / "report.html").write_text("<h1>verdict</h1><script>alert(1)</script>")
    answer = page.get(f"/runs/{run.run_id}/report")
    assert "<h1>verdict</h1>" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "sandbox" in policy


def test_run_browser_is_asked_by_bench_purpose_verdict_and_id(page: TestClient, new_run: NewRun) -> None:
    good, bad = new_run(), new_run()
    sealed(good)
    sealed(bad, Verdict.FAULT)
    assert "2 of 2 runs" in page.get("/runs").text
    shown = page.get("/runs?verdict=fault").text
    assert "1 of 2 runs" in shown
    assert f'href="/runs/{bad.run_id}"' in shown
    assert "0 of 2 runs" in page.get("/runs?bench=another").text
    assert "1 of 2 runs" in page.get(f"/runs?part={good.run_id[-4:]}&page=99999999").text


def test_damaged_run_hides_no_other(page: TestClient, new_run: NewRun) -> None:
    good, bad = new_run(), new_run()
    sealed(good)
    bad.close()
    (bad.path / "run.json").write_text("{")
    assert "damaged" in page.get("/runs").text
    assert good.run_id in page.get("/").text
    assert page.get(f"/runs/{bad.run_id}").status_code == 404


def test_page_writes_nothing_into_the_archive_and_takes_no_lock(
    runs: Path, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()
    at(run, "gain", 10)
    see(run, 100)
    monkeypatch.setattr("labctl.archive.index.WORTH", 2)
    for _ in range(3):
        sealed(new_run())
    for path in runs.rglob("*"):
        os.utime(path, (1.7e9, 1.7e9))  # settled: an index would take it
    before = contents(runs)
    monkeypatch.setattr(locks, "_locked", lambda descriptor: pytest.fail("a lock was taken"))
    page = TestClient(make_app(Serving(runs), spacing_s=0.0), base_url=HERE)
    for path in ("/", "/runs", f"/runs/{run.run_id}", "/nights", "/calibrations", f"/runs/{run.run_id}/camera.png"):
        assert page.get(path).status_code == 200
    assert contents(runs) == before
    assert not (runs / INDEX).exists()


def test_archive_is_not_listed_at_each_look(runs: Path, new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run()
    at(run, "gain", 10)
    listed: list[Path] = []
    monkeypatch.setattr("labctl.web.catalogue.list_runs", lambda root: listed.append(root) or [])
    now_s = [0.0]
    watcher = Watcher(Catalogue(runs, lambda: now_s[0]))
    for _ in range(30):
        watcher.look()
        now_s[0] += 0.1
    assert len(listed) == 1
    now_s[0] += 3
    watcher.look()
    assert len(listed) == 2


def test_what_takes_long_is_kept_long_and_made_once_for_all() -> None:
    now_s, made = [0.0], []
    kept: Kept[int] = Kept(1.0, most=2, clock=lambda: now_s[0])

    def make() -> int:
        made.append(1)
        now_s[0] += 0.5  # it takes half a second: kept for ten
        return len(made)

    assert [kept.get("a", make) for _ in range(5)] == [1] * 5
    now_s[0] = 9.9
    assert kept.get("a", make) == 1
    now_s[0] = 10.1
    assert kept.get("a", make) == 2
    assert (kept.get("b", make), kept.get("c", make), kept.get("b", make)) == (3, 4, 3)
    assert kept.get("a", make) == 5  # of three only two are kept


def test_watchers_get_all_parts_and_then_what_has_changed() -> None:
    looks = [{"a": "1", "b": "1"}, {"a": "1", "b": "1"}, {"a": "2", "b": "1"}]

    async def watch() -> list[dict[str, str]]:
        async def look() -> dict[str, str]:
            return looks.pop(0) if len(looks) > 1 else looks[0]

        hub = Hub(look, 0.01)
        got: list[dict[str, str]] = []
        async for line in hub.watch():
            if line.startswith("data: "):
                got.append(json.loads(line[6:]))
            if len(got) == 2:
                break
        await hub.close()
        return got

    assert asyncio.run(asyncio.wait_for(watch(), LIMIT_S)) == [{"a": "1", "b": "1"}, {"a": "2"}]


def test_nobody_looks_while_nobody_watches() -> None:
    looked: list[int] = []

    async def watch() -> tuple[int, int]:
        async def look() -> dict[str, str]:
            looked.append(1)
            return {"a": str(len(looked))}

        hub = Hub(look, 0.005)
        watching = hub.watch()
        for _ in range(3):
            await anext(watching)
        await watching.aclose()
        await asyncio.sleep(0.1)
        after = len(looked)
        await asyncio.sleep(0.1)
        await hub.close()
        return after, len(looked)

    after, later = asyncio.run(asyncio.wait_for(watch(), LIMIT_S))
    assert after == later


def test_archive_that_cannot_be_looked_at_is_said_and_the_watch_goes_on(
    page: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Watcher) -> None:
        raise PermissionError("no right to read it")

    with monkeypatch.context() as patch:
        patch.setattr(Watcher, "look", broken)
        assert "The archive cannot be read: PermissionError: no right to read it" in page.get("/").text
    text = page.get("/").text
    assert "cannot be read" not in text
    assert all(f'id="{name}"' in text for name in PARTS)
