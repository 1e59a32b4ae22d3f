"""Write the parts of the reference that the code already says: ``python docs/generate.py`` (``--check`` only compares).

A test runs the check, so a table that has fallen behind the code fails CI.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from runpy import run_path
from typing import Any, get_args

import typer
from pydantic import BaseModel
from typer.models import ArgumentInfo

from drivers import Backend, Proof
from drivers.registry import GROUP
from labctl.cli import app
from labctl.cli.handler import COMMON
from labctl.errors import catalogue
from labctl.foreign import documents
from labctl.report.glossary import words_in_order
from labctl.station.model import Station, Table
from labctl.summary import json_schema
from labctl.verdicts import VERDICTS

ROOT = Path(__file__).parent.parent
NOTE = "<!-- written by docs/generate.py from the code: do not edit -->\n"


def exit_codes() -> str:
    rows = [(", ".join(map(str, row.exit_codes)) or "–", f"`{row.verdict}`", row.meaning, row.page) for row in VERDICTS]
    intro = (
        "Every command and every run ends in one verdict of a closed list. `labctl explain-exit N` prints a row.\n"
        "A nightly job needs no more than the exit code to know whom to wake; its service takes 11 and 30\n"
        "for successes. [What to do in the morning](../how-to/run-unattended-nights.md) stands beside each.\n"
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


def glossary() -> str:
    intro = "What pages, reports and commands mean by a word.\n"
    return page("Glossary", intro + "\n" + table(("word", "meaning"), list(words_in_order())))


def python() -> str:
    """The front doors: every name, with its signature and what its docstring says."""
    intro = (
        "What `import labctl` gives, and the front doors of the packages below it. A name is imported when it is\n"
        "first used; `help(labctl.opticalize)` prints the same.\n"
    )
    return page("Python", intro + "\n" + run_path(str(ROOT / "docs" / "python_reference.py"))["chapters"]())


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


def devices() -> str:
    """Every family of devices with its proof, then every backend with its options."""
    found = sorted((point.load() for point in entry_points(group=GROUP) if _is_ours(point)), key=lambda one: one.name)
    order = list(Proof)
    families = sorted(
        ((order.index(family.proof), backend.name, family) for backend in found for family in backend.families),
        key=lambda row: row[:2],
    )
    rows = [(family.name, f"`{name}`", f"**{family.proof}**", family.proven_by) for _, name, family in families]
    intro = (
        "Which devices the suite reaches, by which backend, and how that is proven. `labctl devices list` prints the\n"
        "same for the installation at hand.\n\n"
        "- **live endpoint**: the tests talk to a device, or to a server that speaks its protocol over a real line.\n"
        "- **emulator**: the tests run the vendor's own library against the emulated device that comes with it.\n"
        "- **contract fake**: the tests run against a stand-in that was written from the vendor's documentation and\n"
        "  refuses arguments of other types. No device has ever answered.\n"
        "- **not run**: nothing was run.\n"
    )
    parts = [intro, table(("devices", "backend", "proof", "proven by"), rows)]
    for backend in found:
        parts.append(f"## `{backend.name}`\n\n{_about(backend)}\n\n" + _options_table(backend.options))
    return page("Devices", "\n".join(parts))


def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == "labctl"


def _about(backend: Backend[Any]) -> str:
    """What fills which role, what it needs, and what a person must know who uses it."""
    roles = ", ".join(f"`{role}`" for role in backend.roles) or "none"
    lines = [f"Roles: {roles}."]
    if backend.needs:
        lines.append(f"Needs {', '.join(f'`{module}`' for module in backend.needs)}: `{backend.install}`.")
    if backend.discover is not None:
        lines.append("`labctl devices probe` finds what is connected.")
    if backend.warning:
        lines.append(f"**Take care**: {backend.warning}.")
    return " ".join(lines)


def _options_table(options: type[Any]) -> str:
    rows = []
    for field in dataclasses.fields(options):
        low, high = field.metadata.get("range", (None, None))
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else dataclasses.MISSING
        default = made if field.default is dataclasses.MISSING else field.default
        shown = "required" if default is dataclasses.MISSING else code(repr(default))
        rows.append((f"`{field.name}`", shown, words(field.type, low, high)))
    return table(("option", "default", "allowed"), rows) if rows else "It has no options.\n"


def words(kind: Any, low: float | None, high: float | None) -> str:
    """Type and range of an option."""
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    plain = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(name, code(name))
    return plain if low is None else f"{plain}, {low:g} … {high:g}"


def command_line() -> str:
    intro = (
        "Every command takes `--json` (exactly one document on stdout), `--quiet` and `--bench STATION`\n"
        "(or `LABCTL_BENCH`), and behaves the same without a terminal. `LABCTL_RUNS` is the folder of runs.\n"
        "Folders that an output is to lie in, and that are not there, are made.\n"
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
    for parameter in inspect.signature(callback, eval_str=True).parameters.values():
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
    "docs/reference/glossary.md": glossary,
    "docs/reference/python.md": python,
    "docs/reference/station-file.md": station_file,
    "docs/reference/cli.md": command_line,
    "docs/reference/devices.md": devices,
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
