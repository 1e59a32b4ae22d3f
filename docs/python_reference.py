"""The Python reference as Markdown: every name of the front doors, from its signature and its numpy-style docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from types import GenericAlias, ModuleType
from typing import Any

DOORS = ("labctl", "simulation", "calibration", "drivers")
LISTS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns", "Methods", "Other Parameters", "See Also")
WIDTH = 96


def chapters() -> str:
    """Each front door a chapter, each name a section: signature, what it says of itself, and its examples."""
    parts = []
    for door in map(import_module, DOORS):
        summary = inspect.cleandoc(door.__doc__ or "").partition("\n")[0]
        parts.append(f"## `import {door.__name__}`\n\n{_linked(summary)}\n")
        parts.extend(_section(door, name) for name in sorted(door.__all__, key=str.casefold))
    return "\n".join(parts)


def _section(door: ModuleType, name: str) -> str:
    thing = getattr(door, name)
    heading = f"### {door.__name__}.{name}\n"
    if door.__name__ != "labctl" and getattr(import_module("labctl"), name, None) is thing:
        return f"{heading}\nThe same as [labctl.{name}](#labctl-{name.casefold().replace('_', '-')}).\n"
    if isinstance(thing, GenericAlias):  # what its origin says of itself is somebody else's
        return f"{heading}\nThe type `{str(thing).replace('typing.', '')}`.\n"
    if not callable(thing):
        held = ", ".join(f"`{each}`" for each in thing)
        return f"{heading}\nA `{type(thing).__name__}` with {held}.\n"
    shown = "" if getattr(thing, "_is_protocol", False) else f"\n```python\n{_signature(name, thing)}\n```\n"
    parts = [heading + shown, *_rendered(inspect.cleandoc(thing.__doc__ or ""))]
    if inspect.isclass(thing) and (methods := list(_methods(thing))):
        parts += ["**Methods**\n", "\n".join(methods) + "\n"]
    return "\n".join(parts)


def _methods(kind: type) -> Iterator[str]:
    """Public methods that a class states itself, each with the first sentence of what it says."""
    for name, thing in vars(kind).items():
        if name.startswith("_") or not (inspect.isfunction(thing) or isinstance(thing, classmethod | staticmethod)):
            continue
        function = thing if inspect.isfunction(thing) else thing.__func__
        said = _linked(" ".join(inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0].split()))
        first = 0 if isinstance(thing, staticmethod) else 1
        parameters = list(inspect.signature(function).parameters)[first:]
        yield f"- `{name}({', '.join(parameters)})`" + (f": {said}" if said else "")


def _signature(name: str, thing: Any) -> str:
    """As it stands in the code, one parameter a line where one line is too long."""
    try:
        found = inspect.signature(thing)
    except ValueError:
        return name
    parameters = list(_parameters(found))
    returned = "" if inspect.isclass(thing) else _type(found.return_annotation)
    ends = f" -> {returned}" if returned else ""
    line = f"{name}({', '.join(parameters)}){ends}"
    return line if len(line) <= WIDTH else f"{name}(\n" + "".join(f"    {each},\n" for each in parameters) + f"){ends}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    starred = False
    for each in signature.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not starred:
            yield "*"
        starred = starred or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        kind = f": {_type(each.annotation)}" if _type(each.annotation) else ""
        # Objects and functions have no text that can be typed, and some of them an address that differs each time.
        plain = isinstance(each.default, bool | int | float | str | tuple | type(None))
        default = "" if each.default is each.empty else f"={each.default!r}" if plain else "=..."
        yield stars + each.name + kind + (default.replace("=", " = ", 1) if kind else default)


def _type(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation)


def _rendered(text: str) -> Iterator[str]:
    for title, body in _sections(text):
        if title:
            yield f"**{title}**\n"
        if title == "Examples":
            yield f"```pycon\n{body}\n```\n"
        elif title in LISTS:
            yield "\n".join(_items(body)) + "\n"
        else:
            yield _prose(body)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """A docstring's sections in its order, each with its title; what comes first has none."""
    title, lines = "", []
    rows = text.splitlines()
    for at, row in enumerate(rows):
        if set(row) == {"-"} and len(row) > 2 and lines and lines[-1].strip():
            head = lines.pop()
            if body := "\n".join(lines).strip():
                yield title, body
            title, lines = head.strip(), []
        else:
            lines.append(rows[at])
    if body := "\n".join(lines).strip("\n"):
        yield title, body


def _items(body: str) -> Iterator[str]:
    """Names of a numpy section that begin at the margin, each with the indented words that follow it."""
    for entry in re.split(r"\n(?=\S)", body):
        name, indented, words = entry.partition("\n    ")
        said = _linked(" ".join(words.split()))
        yield f"- `{name.strip()}`: {said}" if indented else f"- {_linked(' '.join(name.split()))}"


def _prose(body: str) -> str:
    """Paragraphs; what is indented, or typed at a prompt, is code."""
    parts = []
    for block in re.split(r"\n\s*\n", body):
        if block.startswith(">>>"):
            parts.append(f"```pycon\n{block}\n```\n")
        elif all(line.startswith("    ") for line in block.splitlines()):
            parts.append(f"```text\n{inspect.cleandoc(block)}\n```\n")
        else:
            parts.append(_linked(block.replace("::\n", ":\n")) + "\n")
    return "\n".join(parts)


def _linked(text: str) -> str:
    """Words in double backticks have single ones in Markdown; stars are stars."""
    return text.replace("``", "`").rstrip()
