"""Whatever has a list of names that it takes asks for the nearest one, in the same words everywhere."""

from __future__ import annotations

import pytest

from labctl.__main__ import main


@pytest.mark.parametrize(("page", "folder"), [("light.html", "light"), ("found/light.html", "found")])
def test_scaling_takes_no_name_of_a_page_for_a_model(
    page: str, folder: str, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scaling", "ideal", "--report", page]) == 2
    said = capsys.readouterr().err
    assert "a page is no model" in said
    assert f"try:  -o {folder} --report" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("bench", "meant"), [("paper", "paper"), ("latest", "latest"), (None, "ideal")])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_model_where_the_bench_stands_is_told_which_comes_first(
    bench: str | None, meant: str, kind: str, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    (tmp_path / "model.gguf").touch()
    model = "folder" if kind == "folder" else "model.gguf"
    assert main(["simulate", model, *([] if bench is None else [bench])]) == 2
    said = capsys.readouterr().err
    assert "the bench comes first, then the model" in said
    assert f"try:  labctl simulate {meant} {model}" in said


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("energy", "--shape", "gp2"), "gpt2"),
        (("energy", "--shape", "Llama-3.1-70B-Instruct"), "llama-3.1-70b"),
        (("energy", "--shape", "gpt3"), "gpt3-13b or gpt3-175b"),
        (("energy", "--machine", "aoc"), "aoc-2025-48"),
        (("energy", "--scenario", "tomorow"), ""),
        (("energy", "--scenario", "tday"), "today"),
        (("simulate", "ideal", "--encoding", "sgin-split", "--tokens", "8"), "sign-split"),
        (("simulate", "ideal", "--encoding", "tiled-scale:32", "--tokens", "8"), "tiled-scales"),
        (("simulate", "papre"), "paper"),
        (("explain-exit", "E-USE-01"), "E-USE-001"),
        (("errors", "E-CAL-05"), "E-CAL-005"),
        (("calibrate", "drk"), "dark"),
        (("plan", "mesure"), "measure"),
        (("export", "latest", "--to", "nexs"), "nexus"),
        (("devices", "list", "--role", "camra"), "camera"),
        (("devices", "show", "slmm", "blank"), "slm"),
        (("station", "show", "--bench", "moc"), "mock"),
        (("station", "show", "--set", "layout.encoding=sgin-split"), "sign-split"),
        (("station", "show", "--set", "layout.colums=8"), "layout.columns"),
        (("train", "family", "--arms", "widht"), "width"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(
    typed: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(typed) == 2
    said = capsys.readouterr().err
    assert (f"did you mean {meant}?" in said) if meant else ("did you mean" not in said), said
