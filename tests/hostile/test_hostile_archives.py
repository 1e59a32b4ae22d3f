"""Archives that somebody has altered, byte by byte or word by word: every page still answers, and none breaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the live page needs labctl[web]")
from everyday import everyday
from starlette.testclient import TestClient

from labctl.archive import RunWriter
from labctl.archive.preview import PreviewFile, Seen
from labctl.archive.progress import Frames, Progress, ProgressFile
from labctl.station.loading import load_station
from labctl.summary import FirstError, Metric, Summary, Validation
from labctl.verdicts import Verdict
from labctl.web.app import make_app
from labctl.web.serving import Serving

WRONG: tuple[Any, ...] = (
    None,
    "",
    "x" * 500,
    -1,
    0,
    10**400,
    1e308,
    True,
    [],
    {},
    [[]],
    {"a": {"b": []}},
    "2026-13-45",
)
ALTERED = (
    "run.json",
    "progress.json",
    "journal.jsonl",
    "summary.json",
    "SEAL",
    "preview.npz",
    "segments/manifest.jsonl",
)


def make_run(runs: Path, seal: bool) -> Path:
    with RunWriter.create(runs, "nightly", load_station()) as run:
        frame = np.full((20, 30), 7, np.uint16)
        preview = PreviewFile(run.path)
        preview.offer(Seen(frame, 0, 0, 255, 1, "gain", lambda: np.zeros((2, 4, 2), np.float32)))
        preview.close()
        where = Progress(run.run_id, "measuring", "gain", "probe", Frames(3, 9), Frames(5, 90), 60.0, 4.0)
        ProgressFile(run.path).write(lambda: where)
        run.write_segment("dark", {"frames": np.arange(3.0)})
        run.journal("node", name="dark", state="done", check="in_spec", reason="", duration_s=1.0)
        run.journal("fault", device="camera", code="E-DEV-003", what="no frame", tried=[])
        if seal:
            validation = Validation(products=3, nrmse=0.1, r2=0.9, effective_bits=5, chi2_per_dof=1, coverage95=0.9)
            run.finish(
                Verdict.FAULT,
                Summary(
                    run_id=run.run_id, bench="mock", verdict=Verdict.FAULT, metrics=[Metric.judge("nrmse", 1.0, "1")],
                    first_error=FirstError(code="E-DEV-003", message="no frame"), validation=validation,
                ),
            )  # fmt: skip
        return run.path


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr("labctl.archive.run.code_provenance", lambda sources: {})
    return [make_run(tmp_path / "runs", seal) for seal in (True, False)]


def looked_at(folder: Path) -> None:
    """By a new server each time: nothing is kept from before."""
    page = TestClient(make_app(Serving(folder.parents[3])), base_url="http://localhost:8642")
    run_id = folder.name
    for path in ("/", "/runs", f"/runs/{run_id}", f"/runs/{run_id}/camera.png", "/nights", "/calibrations"):
        answer = page.get(path)
        assert answer.status_code in (200, 404, 422), path
        assert "The archive cannot be read" not in answer.text
        assert "<script>" not in answer.text


def altered_json(text: str, rng: np.random.Generator) -> str:
    """One value of a document, at any depth, is another."""
    document = json.loads(text)
    place = document
    while isinstance(place, dict | list) and place:
        key: Any = list(place)[rng.integers(len(place))] if isinstance(place, dict) else int(rng.integers(len(place)))
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.3:
            place[key] = WRONG[rng.integers(len(WRONG))]
            break
        place = place[key]
    return json.dumps(document)


@pytest.mark.parametrize("seed", everyday(range(12), 0, 1))
def test_no_altered_file_breaks_a_page(folders: list[Path], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for folder in folders:
        for name in ALTERED:
            path = folder / name
            if not path.exists():
                continue
            whole = path.read_bytes()
            if path.suffix != ".npz" and rng.random() < 0.75:
                lines = whole.decode().strip().split("\n") if path.suffix == ".jsonl" else [whole.decode()]
                i = int(rng.integers(len(lines)))
                lines[i] = altered_json(lines[i], rng)
                path.write_text("\n".join(lines) + "\n")
            else:
                raw = bytearray(whole)
                raw[int(rng.integers(len(raw)))] = int(rng.integers(256))
                path.write_bytes(bytes(raw[: int(rng.integers(1, len(raw) + 1))] if rng.random() < 0.3 else raw))
            looked_at(folder)
            path.write_bytes(whole)


@pytest.mark.parametrize("name", everyday(ALTERED, 0, 3, 4))
def test_what_stands_in_the_place_of_a_file_breaks_no_page(folders: list[Path], name: str) -> None:
    for folder in folders:
        (folder / name).unlink(missing_ok=True)
        looked_at(folder)
        (folder / name).mkdir()
        looked_at(folder)
