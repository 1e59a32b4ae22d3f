"""Write the parts of the reference that the code already says: ``python docs/generate.py`` (``--check`` only compares).

A test runs the check, so a table that has fallen behind the code fails CI.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import BaseModel
from typer.models import ArgumentInfo

from labctl.cli import app
from labctl.cli.handler import COMMON
from labctl.errors import catalogue
from labctl.foreign import documents
from labctl.station.model import Station, Table
from labctl.summary import json_schema
from labctl.verdicts import VERDICTS

ROOT = Path(__file__).parent.parent
NOTE = "<!-- written by docs/generate.py from the code: do not edit -->\n"


def exit_codes() -> str:
    rows = [(", ".join(map(str, row.exit_codes)) or "–", f"`{row.verdict}`", row.meaning, row.page) for row in VERDICTS]
    intro = (
        "Every command and every run ends in one verdict of a closed list. `labctl explain-exit N` prints a row.\n"
        "A nightly job needs no more than the exit code to know whom to wake.\n"
    )
    return page(
        "Exit codes and verdicts", intro + "\n" + table(("exit code", "verdict", "meaning", "wake someone?"), rows)
    )


def error_codes() -> str:
    rows = [(f"`{row.code}`", f"`{row.name}`", row.meaning, row.exit_code) for row in catalogue()]
    intro = (
        "An error says what failed, on what, doing what, what was expected and seen, what is safe now and what to\n"
        "type next. The traceback is in the run's `log.jsonl`; outside a run, in that of the user's state folder\n"
        "(`~/.local/state/labctl`, on Windows `%LOCALAPPDATA%\\labctl`). `LABCTL_DEBUG=1` prints it.\n"
    )
    return page("Error codes", intro + "\n" + table(("code", "class", "meaning", "exit code"), rows))


def station_file() -> str:
    parts = [
        "A station file (TOML) describes one bench and how it is used. Every key has a default; an unknown key is an\n"
        "error that names the nearest known one. `--set KEY=VALUE` changes a key for one command, and\n"
        "`labctl station show --origin` says where each value comes from.\n"
    ]
    for model, names in tables(Station).items():
        summary = (model.__doc__ or "").partition(": ")[2].partition("\n")[0]
        rows = [(f"`{key}`", default, allowed) for key, default, allowed in keys(model)]
        title = ", ".join(f"`[{name}]`" for name in names)
        parts.append(
            f"## {title}\n\n{summary[:1].upper()}{summary[1:]}\n\n" + table(("key", "default", "allowed"), rows)
        )
    parts.append("## `[mock]`\n\nFree-form: passed to the mock bench, which checks it when it opens.\n")
    return page("The station file", "\n".join(parts))


def tables(model: type[BaseModel], prefix: str = "") -> dict[type[BaseModel], list[str]]:
    """Each table's model and the names under which it stands in the file."""
    found: dict[type[BaseModel], list[str]] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Table):
            below = tables(inner, f"{prefix}{name}.") or {inner: [prefix + name]}
            for key, names in below.items():
                found.setdefault(key, []).extend(names)
    return found


def keys(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    properties = model.model_json_schema()["properties"]
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "pattern": "matches"}
    for name, field in model.model_fields.items():
        if not _is_table(field.annotation):
            facts = properties[name]
            limits = [f"{word} {code(facts[key])}" for key, word in words.items() if key in facts]
            kind = " or ".join(map(code, facts["enum"])) if "enum" in facts else facts.get("type", "table")
            default = "the mock bench's" if field.is_required() else code(repr(field.default))
            yield name, default, ", ".join([kind.replace("object", "table"), *limits])


def command_line() -> str:
    intro = (
        "Every command takes `--json` (exactly one document on stdout), `--quiet` and `--bench STATION`\n"
        "(or `LABCTL_BENCH`), and behaves the same without a terminal. `LABCTL_RUNS` is the folder of runs.\n"
    )
    parts = [f"## `{name}`\n\n{text}\n{options}" for name, text, options in commands(app, "labctl")]
    return page("The command line", intro + "\n" + "\n".join(parts))


def commands(group: typer.Typer, prefix: str) -> Iterator[tuple[str, str, str]]:
    if group.registered_callback is not None and group.registered_callback.callback is not None:
        yield described(prefix, group.registered_callback.callback)
    for command in group.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        yield described(f"{prefix} {name}", command.callback)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance, f"{prefix} {inner.name}")


def described(name: str, callback: Callable[..., Any]) -> tuple[str, str, str]:
    """Name with arguments, help text, and the table of options."""
    arguments, options = parameters(callback)
    rows = "\n" + table(("option", "meaning"), options) if options else ""
    return " ".join([name, *arguments]), " ".join((callback.__doc__ or "").split()), rows


def parameters(callback: Callable[..., Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Arguments, and options other than those that every command has."""
    arguments, options = [], []
    for parameter in inspect.signature(callback).parameters.values():
        if parameter.annotation is typer.Context:
            continue
        info = get_args(parameter.annotation)[1]
        if isinstance(info, ArgumentInfo):
            name = str(info.metavar or parameter.name.upper())
            arguments.append(name if parameter.default is inspect.Parameter.empty else f"[{name}]")
        elif parameter.name not in COMMON:
            spelled = ", ".join((info.default, *info.param_decls))  # inside Annotated, typer keeps the first name there
            options.append((f"`{spelled}`", info.help or ""))
    return arguments, options


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Table)


def code(value: object) -> str:
    return f"`{value}`"


def table(headers: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [headers, tuple("---" for _ in headers), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def page(title: str, body: str) -> str:
    return f"{NOTE}\n# {title}\n\n{body}"


FILES = {
    "docs/reference/exit-codes.md": exit_codes,
    "docs/reference/error-codes.md": error_codes,
    "docs/reference/station-file.md": station_file,
    "docs/reference/cli.md": command_line,
    "data/schemas/summary-1.schema.json": json_schema,
    "data/schemas/import-1.schema.json": partial(documents.json_schema, documents.Imported),
    "data/schemas/fit-1.schema.json": partial(documents.json_schema, documents.Fitted),
    "data/schemas/predict-1.schema.json": partial(documents.json_schema, documents.Predicted),
}


def outdated() -> list[str]:
    """The files whose text on the disk is not what the code says."""
    return [name for name, make in FILES.items() if not same(ROOT / name, make())]


def same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def main() -> int:
    """Write what is outdated; with ``--check`` say it and exit 1."""
    names = outdated()
    for name in names:
        print(name)
        if "--check" not in sys.argv:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(FILES[name](), encoding="utf-8", newline="\n")
    return 1 if names and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
