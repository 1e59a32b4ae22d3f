"""What is written down is what the code says."""

from __future__ import annotations

import ast
import json
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labctl.__main__ import main

ROOT = Path(__file__).parents[2]


def test_generated_reference_and_schema_are_current() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert generate["outdated"]() == [], "run: python docs/generate.py"


def test_links_between_the_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)} → {target}"
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


@pytest.fixture(scope="module")
def house() -> dict[str, Any]:
    """The script that draws the house."""
    return runpy.run_path(str(ROOT / "docs" / "draw_house.py"))


@pytest.fixture(scope="module")
def imports(house: dict[str, Any]) -> dict[str, Any]:
    """Who imports whom, as the script reads it from the code."""
    found: dict[str, Any] = house["graph"]()
    return found


def test_rooms_of_the_picture_are_the_folders(house: dict[str, Any], imports: dict[str, Any]) -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert sorted(house["rooms"]()) == sorted(tool["hatch"]["build"]["targets"]["wheel"]["packages"])
    for package, rooms in house["rooms"]().items():
        holding = {path.relative_to(ROOT / package).parts[0] for path in (ROOT / package).rglob("*/*.py")}
        assert rooms == sorted(holding), f"a folder of {package} with modules and without __init__.py"
    every = {f"{package}.{room}" for package, rooms in house["rooms"]().items() for room in rooms}
    assert set(imports) == every | set(house["rooms"]())


@pytest.mark.slow
def test_picture_of_the_house_is_drawn(house: dict[str, Any], imports: dict[str, Any], tmp_path: Path) -> None:
    house["draw"](tmp_path / "house.png")
    with Image.open(tmp_path / "house.png") as drawn:
        assert json.loads(drawn.text[house["GRAPH"]]) == imports


def test_picture_of_the_house_is_current(house: dict[str, Any], imports: dict[str, Any]) -> None:
    with Image.open(house["PICTURE"]) as picture:
        assert json.loads(picture.text[house["GRAPH"]]) == imports, "run: python docs/draw_house.py"


def test_every_decision_is_in_the_list_and_has_its_three_parts() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(folder.glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(len(pages)))
    listed = re.findall(r"^- \[.*\]\((.*)\)", (folder / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [page.name for page in pages[1:]]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(page.name[:4])}. ")
        assert re.findall(r"^## (.*)", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def walk() -> list[tuple[Path, str]]:
    """The stops of one product's walk as CONTRIBUTING lists them: file and qualified name."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    between = text.partition("<!-- walk: begin -->")[2].partition("<!-- walk: end -->")[0]
    stops = re.findall(r"^\d+\. `([\w/]+\.py):([\w.]+)`", between, re.MULTILINE)
    return [(ROOT / file, name) for file, name in stops]


def test_walk_of_a_product_has_few_stops_and_comes_to_no_file_twice() -> None:
    files = [file for file, _ in walk()]
    assert 10 <= len(files) <= 15
    assert len(set(files)) == len(files)


@pytest.mark.parametrize(("file", "name"), walk(), ids=lambda part: part.stem if isinstance(part, Path) else part)
def test_stop_of_the_walk_is_in_the_code(file: Path, name: str) -> None:
    assert file.is_file()
    body: list[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
    for part in name.split("."):
        (found,) = [n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == part]
        body = found.body


def stations() -> list[str]:
    """The station files that a page gives as a whole: those with a name for the bench and devices of the mock."""
    text = (ROOT / "docs" / "how-to" / "describe-your-bench.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block for block in blocks if "[bench]" in block]


def test_page_about_the_bench_gives_whole_station_files() -> None:
    assert len(stations()) == 2


@pytest.mark.parametrize("text", stations(), ids=lambda text: tomllib.loads(text)["bench"]["name"])
def test_station_file_of_a_page_passes_the_check(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench-a.toml"
    path.write_text(text, encoding="utf-8")
    assert main(["station", "check", "--bench", str(path)]) == 0
    named = [f"devices.{name}" for name in tomllib.loads(text)["devices"]]
    passed = re.findall(r"^PASS  (devices\.\S+):", capsys.readouterr().out, re.MULTILINE)
    assert set(named) <= set(passed)
