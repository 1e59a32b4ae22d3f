"""Read JSON of bounded size and depth, with finite numbers and no key twice. Standard library only."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from groundwork.errors import FileRefused
from groundwork.opening.regular import MOST_TEXT_BYTES, read_regular

MOST_DEPTH = 64
MOST_PARTS = 2_000_000
"""Lists and objects in one document: each takes a hundred bytes of memory, and three of the text."""
_BRACKETS = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.?)*+"?)*+([\[\]{}])?', re.DOTALL)
"""All up to the next bracket outside of strings, or to the end: goes over each byte once."""


def read_json(path: str | os.PathLike[str], most_bytes: int = MOST_TEXT_BYTES, *, finite: bool = True) -> Any:
    """The document in a file.

    Parameters
    ----------
    finite
        Whether ``NaN``, ``Infinity`` and numbers that are too large are refused; other programs write them.

    Raises
    ------
    FileRefused
        No regular file, too large, or not as `parse_json` wants it.
    OSError
        There is nothing, or it may not be read.
    """
    return parse_json(read_regular(path, most_bytes), path, finite=finite)


def parse_json(raw: bytes | str, path: str | os.PathLike[str] = "", *, finite: bool = True) -> Any:
    """The document in bytes or a text; ``path`` is where they come from, the rest as of `read_json`.

    Raises
    ------
    FileRefused
        Not JSON in UTF-8, nested deeper than 64 levels, a number that is not finite, a key twice in one object.
    """
    data = raw.encode(errors="surrogatepass") if isinstance(raw, str) else raw
    _require_flat(data, path)
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            parse_constant=_constant if finite else None,
            parse_float=_finite if finite else None,
            object_pairs_hook=_once,
        )
    except (ValueError, RecursionError) as error:
        raise FileRefused("not JSON", device=str(path), seen=str(error)[:300]) from error


def _require_flat(data: bytes, path: str | os.PathLike[str]) -> None:
    """Count the brackets that stand outside of strings, before the parser calls itself once for each."""
    parts = data.count(b"[") + data.count(b"{")
    if parts > MOST_PARTS:
        expected = f"at most {MOST_PARTS}"
        raise FileRefused("too many lists and objects", device=str(path), expected=expected, seen=f"{parts}")
    if parts <= MOST_DEPTH:
        return
    depth = 0
    for found in _BRACKETS.finditer(data):
        if found[1] is None or depth < 0:
            return  # the parser says what is wrong
        depth += 1 if found[1] in b"[{" else -1
        if depth > MOST_DEPTH:
            expected = f"at most {MOST_DEPTH} levels"
            raise FileRefused("nested too deep", device=str(path), expected=expected, seen="more")


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r} stands twice in one object")
    return found
