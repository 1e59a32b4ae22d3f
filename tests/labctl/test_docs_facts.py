"""What the pages name exists: commands, error codes, keys of the station file, files, modules and what is in them."""

from __future__ import annotations

import ast
import pkgutil
import re
import runpy
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from drivers.registry import GROUP
from labctl.errors import catalogue
from labctl.station.model import Station, Table

ROOT = Path(__file__).parents[2]
DOCSTRINGS = ROOT / "docs" / "reference" / "python.md"
"""Not among the pages: its examples run with the other docstrings."""
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path != DOCSTRINGS),
]
PACKAGES = ("labctl", "drivers", "calibration", "groundwork", "mock_hardware", "simulation")
NO_MODULES = {GROUP, "labctl.pipeline"}
"""Dotted names of other things: the entry-point group, and what the changelog says has gone."""
FOLDERS = "tests", "benchmarks", "examples", "docs", "data", *PACKAGES

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def code(page: Path) -> str:
    """The code of a page: fenced and indented blocks, and what stands between backticks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```.*?```", text, re.DOTALL) + re.findall(r"^(?: {3,}|\t)\S.*$", text, re.MULTILINE)
    return "\n".join(blocks + re.findall(r"`([^`]+)`", text))


def test_pages_were_found_and_hold_code() -> None:
    assert len(PAGES) > 30
    assert sum("labctl " in code(page) for page in PAGES) > 10


@pytest.fixture(scope="module")
def commands() -> dict[str, set[str]]:
    """Every command and group with the words that may follow it; a group that is a command takes any."""
    reference = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    found: dict[str, set[str]] = {}
    for name, _, _ in reference["commands"](reference["app"], "labctl"):
        words = [word for word in name.partition("[")[0].split()[1:] if word.islower()]
        for first in words[:1]:  # none of the program by itself
            found.setdefault(first, set()).update(words[1:2] or {"*"})
    return found


@page
def test_commands_exist(page: Path, commands: dict[str, set[str]]) -> None:
    named = re.findall(r"(?:^|[\s`$(])labctl ([a-z][a-z|-]*)(?: ([a-z][a-z|-]*))?", code(page), re.MULTILINE)
    for firsts, seconds in named:
        for first in firsts.split("|"):
            assert first in commands
            if "*" not in commands[first]:
                assert set(seconds.split("|")) - {""} <= commands[first]


@page
def test_error_codes_exist(page: Path) -> None:
    known = {row.code for row in catalogue()}
    assert set(re.findall(r"\bE-[A-Z]{3}-\d{3}\b", page.read_text(encoding="utf-8"))) - known == set()


def keys(model: type[Table], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        yield prefix + name
        if isinstance(inner, type) and issubclass(inner, Table):
            yield from keys(inner, f"{prefix}{name}.")


@page
def test_keys_of_the_station_file_exist(page: Path) -> None:
    tables = "|".join(Station.model_fields.keys() - {"mock", "devices", "bench", "station", "camera", "source"})
    named = re.findall(rf"(?<![\w./])((?:{tables})\.[a-z][\w]*)(?![\w.(/])", code(page))
    assert set(named) - set(keys(Station)) == set()


@page
def test_files_exist(page: Path) -> None:
    named = re.findall(rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w/.-]+\.(?:py|md|toml|json|safetensors))", code(page))
    missing = {name for name in named if not (ROOT / name).exists() and "NAME" not in name}
    assert missing == set()


@page
def test_dotted_names_exist(page: Path) -> None:
    named = re.findall(rf"(?<![\w./:-])((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)(?![\w./-])", code(page))
    missing = {name for name in named if name not in NO_MODULES and not resolves(name)}
    assert missing == set()


def test_python_of_the_pages_is_python_and_its_imports_resolve() -> None:
    blocks = [
        textwrap.dedent(block)
        for page in PAGES
        for block in re.findall(
            r"^ *```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
    ]
    assert len(blocks) >= 3
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block))]
    named = [f"{n.module}.{alias.name}" for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names]
    assert [name for name in named if not resolves(name)] == []


EXTRAS = {"bluesky", "tiled", "peft"}
"""Packages that pages use, and that the tests of every day do without; what runs these pages is skipped then."""


def resolves(name: str) -> bool:
    """Whether the dotted name is a module or something in one; of an extra that is not here, nobody can tell."""
    if name.partition(".")[0] in EXTRAS and find_spec(name.partition(".")[0]) is None:
        return True
    try:
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True
