"""What is to be typed next means the bench and the archive of the command before, and is a command that exists."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import labctl
from labctl.cli import app
from labctl.hints import COMMANDS, completed, given

OPTIONS = {"--bench": "my bench.toml", "--runs": "../small/runs"}
PLACE = "x7k2"
"""Where an f-string puts something in."""


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command: its words, and what typer knows of it."""
    for name, found in (group or typer.main.get_command(app)).commands.items():
        if hasattr(found, "commands"):
            yield from commands(found, (*path, name))
        else:
            yield " ".join((*path, name)), found


@cache
def known_commands() -> dict[str, Any]:
    return dict(commands())


def test_every_command_that_looks_into_an_archive_is_known_with_its_words() -> None:
    known = known_commands()
    assert set(COMMANDS) <= set(known)
    for name, found in known.items():
        options = {word for one in found.params for word in one.opts}
        counts = [one.nargs for one in found.params if one.param_type_name == "argument"]
        takes = COMMANDS.get(name)
        assert ("--runs" in options) == (takes is not None and takes.runs), name
        if takes is not None:
            assert takes.words == (99 if -1 in counts else sum(counts)), name


def texts() -> Iterator[tuple[str, str]]:
    """Every text of a file of the program that names a command: where it stands, and what it says."""
    for path in sorted(Path(labctl.__file__).parent.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "labctl " not in source:
            continue
        nodes = list(ast.walk(ast.parse(source)))
        inside = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        documents = {
            id(node.body[0].value)
            for node in nodes
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in nodes:
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                parts = [str(p.value) if isinstance(p, ast.Constant) else PLACE for p in node.values]
                yield where, "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | documents:
                yield where, node.value


HINTS = [(where, text) for where, text in texts() if completed(text, OPTIONS) != text]


def test_hints_of_the_program_are_found() -> None:
    assert len(HINTS) > 80
    assert any("labctl calibrate maintain" in text for _, text in HINTS)


@pytest.mark.parametrize(("where", "text"), HINTS, ids=[where for where, _ in HINTS])
def test_hint_is_a_command_line_that_means_the_same_bench_and_archive(where: str, text: str) -> None:
    known = known_commands()
    for segment in re.split(r"   ·   |\n|; ", completed(text, OPTIONS)):
        for found in re.finditer(r"labctl ([a-z-]+(?: [a-z-]+)?)[^,;]*", segment):
            if "my bench" not in found[0] and "../small" not in found[0]:
                continue
            words = shlex.split(found[0].replace("…", "").replace(")", ""))[1:]
            name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
            rest = words[len(name.split()) :]
            try:
                context = known[name].make_context(name, list(rest), resilient_parsing=True)
            except Exception as error:
                pytest.fail(f"{where}: {found[0]}: {error}")
            assert COMMANDS[name].runs == (str(context.params.get("runs")) == "../small/runs"), found[0]
            assert not COMMANDS[name].bench or context.params["bench"] == "my bench.toml", found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("labctl run resume k7f2", "labctl run resume k7f2 --runs ../small/runs"),
        ("go on: labctl run resume k7f2 --budget 20m",
         "go on: labctl run resume k7f2 --runs ../small/runs --budget 20m"),
        ("labctl run show k7f2 --runs a", "labctl run show k7f2 --runs a"),
        ("labctl drift show -b a", "labctl drift show --runs ../small/runs -b a"),
        ("no night   ·   labctl nightly run",
         "no night   ·   labctl nightly run --bench 'my bench.toml' --runs ../small/runs"),
        ("labctl needs Python 3.12", "labctl needs Python 3.12"),
        ("held by labctl nightly run, since noon", "held by labctl nightly run, since noon"),
        ("labctl train a.pt, then labctl fit", "labctl train a.pt --bench 'my bench.toml' --runs ../small/runs, "
         "then labctl fit --runs ../small/runs"),
    ],
)  # fmt: skip
def test_only_what_is_missing_is_added(text: str, expected: str) -> None:
    assert completed(text, OPTIONS) == expected
    assert completed(expected, OPTIONS) == expected
    assert completed(text, {}) == text


def test_what_a_command_takes_anyway_is_not_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LABCTL_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert given(None, Path("runs")) == given(None, tmp_path / "runs") == {}
    assert given("a.toml", Path("other")) == {"--bench": "a.toml", "--runs": "other"}
    monkeypatch.setenv("LABCTL_RUNS", "other")
    monkeypatch.setenv("LABCTL_BENCH", "a.toml")
    assert given("a.toml", Path("other")) == {}
    assert given("a.toml", Path("runs")) == {"--runs": "runs"}
