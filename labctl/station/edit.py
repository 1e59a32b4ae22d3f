"""Change keys of a station file and leave the rest of it, comments and order included, as its owner wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groundwork.opening.toml_text import parse_toml
from labctl.errors import ConfigError

MARK = "labctl align: "
"""Begins each reason that the program has written."""


def with_values(text: str, values: Mapping[str, tuple[Any, str]]) -> str:
    """The text of a station file with some keys set.

    Parameters
    ----------
    text
        TOML.
    values
        Dotted key → value, and the reason, which is added to the comment beside it; an earlier reason gives way.

    Raises
    ------
    ConfigError
        When the text cannot be changed so that it reads as it did but for these keys; nothing is written anyway.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    end = "\r\n" if "\r\n" in text else "\n"
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix(mark).replace("\r\n", "\n")
    try:
        document = tomlkit.parse(text)
        for key, (value, comment) in values.items():
            *tables, name = key.split(".")
            table: Any = document
            for part in tables:
                table = table.setdefault(part, tomlkit.table())
            item = tomlkit.item(value)
            item.comment(_beside(table.get(name), comment))
            _put(table, name, item)
        changed = tomlkit.dumps(document)
    except (TOMLKitError, TypeError, AttributeError) as error:
        raise _unchanged(str(error)) from error
    expected = parse_toml(text)
    for key, (value, _) in values.items():
        *tables, name = key.split(".")
        table = expected
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = value
    if parse_toml(changed) != expected:
        raise _unchanged("the text would say something else")
    return mark + changed.replace("\n", end)


def _put(table: Any, name: str, item: Any) -> None:
    """Set a key; a new one goes before the comments at a table's end, which are about the table that follows."""
    body = getattr(getattr(table, "value", None), "body", [])
    tail: list[Any] = []
    while name not in table and body and body[-1][0] is None:
        tail.insert(0, body.pop())
    table[name] = item
    body.extend(tail)


def _beside(old: Any, reason: str) -> str:
    """The comment that stands beside a value, with the new reason after what its owner wrote."""
    said = old.trivia.comment.lstrip("# ") if hasattr(old, "trivia") else ""
    said = said.partition(MARK)[0].rstrip(" ·")
    return f"{said}  ·  {MARK}{reason}" if said else f"{MARK}{reason}"


def _unchanged(seen: str) -> ConfigError:
    return ConfigError(
        "the station file cannot be changed by the program",
        action="writing the station file",
        seen=seen,
        safe="nothing was changed",
        hint="write the values that were proposed into it by hand",
    )
