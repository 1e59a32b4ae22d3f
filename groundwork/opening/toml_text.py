"""Read TOML of bounded size and depth. Standard library only."""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any

from groundwork.errors import FileRefused
from groundwork.opening.regular import read_text

MOST_BYTES = 2**20
MOST_DEPTH = 32
_DOTTED = re.compile(rf'(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|\'[^\'\n]*+\')[ \t]*+\.[ \t]*+){{{MOST_DEPTH}}}')
_TOKENS = re.compile(
    r'"""(?:[^\\"]|\\.?|"(?!""))*+(?:""")?'
    r"|'''(?:[^']|'(?!''))*+(?:''')?"
    r'|"(?:[^"\\\n]|\\.?)*+"?'
    r"|'[^'\n]*+'?|#[^\n]*+|[\[{]|[\]}]",
    re.DOTALL,
)


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The table in a file.

    Raises
    ------
    FileRefused
        No regular file, too large, not UTF-8, or not as `parse_toml` wants it.
    OSError
        There is nothing, or it may not be read.
    """
    return parse_toml(read_text(path, MOST_BYTES), path)


def parse_toml(text: str, path: str | os.PathLike[str] = "") -> dict[str, Any]:
    """The table in a text; ``path`` is where it comes from.

    Raises
    ------
    FileRefused
        Not TOML, or nested deeper than 32 levels.
    """
    if _DOTTED.search(text):
        raise _too_deep(path)
    depth = 0
    for found in _TOKENS.finditer(text):
        depth += 1 if found[0] in ("[", "{") else -1 if found[0] in ("]", "}") else 0
        if depth > MOST_DEPTH:
            raise _too_deep(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileRefused("not TOML", device=str(path), seen=str(error)[:300]) from error


def _too_deep(path: str | os.PathLike[str]) -> FileRefused:
    return FileRefused(
        "not TOML that is read here: nested too deep", device=str(path), expected=f"at most {MOST_DEPTH} levels"
    )
