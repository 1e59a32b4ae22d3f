"""Results on the disk, each in a file whose name says what was computed; a damaged one counts as absent."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from groundwork.files import write_whole
from groundwork.opening.json_text import read_json

Result = TypeVar("Result")


@dataclass(frozen=True)
class Format(Generic[Result]):
    """How one kind of result is written as JSON.

    Attributes
    ----------
    schema
        Of the file.
    suffix
        Of its name.
    about
        The entry that says what was computed.
    pack
        The entries of a result.
    unpack
        A result from the document; raises ValueError, KeyError or TypeError where it is not whole.
    signed
        What the digest is of, from the document.
    """

    schema: str
    suffix: str
    about: str
    pack: Callable[[Result], dict[str, Any]]
    unpack: Callable[[Mapping[str, Any]], Result]
    signed: Callable[[Mapping[str, Any]], Any]


class Store(Generic[Result]):
    """A folder of results; several sweeps may use it at once.

    Parameters
    ----------
    folder
        Made when the first one is written.
    form
        How they are written.
    """

    def __init__(self, folder: Path, form: Format[Result]) -> None:
        self.folder = folder
        self._form = form

    def path(self, about: Mapping[str, Any]) -> Path:
        """Where the result lies, or will; ``about`` is everything that it depends on, as JSON."""
        key = key_of(about)
        return self.folder / key[:2] / f"{key}{self._form.suffix}"

    def load(self, about: Mapping[str, Any]) -> Result | None:
        """The result, or None if it is not there or cannot be trusted."""
        form = self._form
        try:
            document = read_json(self.path(about))
            if (
                document["schema"] == form.schema
                and document[form.about] == dict(about)
                and document["sha256"] == _digest(form.signed(document))
            ):
                return form.unpack(document)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def save(self, about: Mapping[str, Any], found: Result) -> None:
        """Write the result whole or not at all.

        Raises
        ------
        OSError
            Disk full, not writable.
        """
        form = self._form
        document: dict[str, Any] = {"schema": form.schema, form.about: dict(about), **form.pack(found)}
        document["sha256"] = _digest(form.signed(document))
        write_whole(self.path(about), (json.dumps(document) + "\n").encode())


def key_of(about: Mapping[str, Any]) -> str:
    """64 hexadecimal digits that say what was computed."""
    return hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode()).hexdigest()


def finite(value: Any) -> float:
    """A number of a document.

    Raises
    ------
    ValueError
        When it is NaN or infinite.
    """
    if not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _digest(signed: Any) -> str:
    return hashlib.sha256(json.dumps(signed, sort_keys=True).encode()).hexdigest()
