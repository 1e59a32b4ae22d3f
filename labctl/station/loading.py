"""Load a station file: where every value comes from, and what to type when a key is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from drivers.protocols import ROLES
from groundwork.errors import FileRefused
from groundwork.nearest import did_you_mean
from groundwork.notebook import Card, Carded
from groundwork.opening.regular import read_text
from groundwork.opening.toml_text import MOST_BYTES, parse_toml
from labctl.errors import ConfigError, UsageError, storage_error
from labctl.resources import data_path
from labctl.station import toml_text
from labctl.station.model import Devices, DeviceTable, Station

DEFAULT = "default"
SET = "--set"


@dataclass(frozen=True, repr=False)
class LoadedStation(Carded):
    """A valid station and the origin of every key.

    Attributes
    ----------
    station
        The effective values.
    origins
        Dotted key → ``"default"``, ``"--set"`` or ``"bench-a.toml:12"`` (without the line where it is not known).
    path
        The file that was read.
    """

    station: Station
    origins: Mapping[str, str]
    path: Path

    @property
    def bench(self) -> str:
        """The name of the bench."""
        return self.station.bench.name

    @property
    def mode(self) -> str:
        """``"mock"`` or ``"hardware"``."""
        return self.station.bench.mode

    def card(self) -> Card:
        """What a notebook shows of it: its devices, and what ``--set`` has changed."""
        values, layout, devices = self.values(), self.station.layout, self.station.devices
        named = {name: devices[name].backend for role in ROLES for name in devices.named(role)}
        changed = {key: f"{values[key]}  ({SET})" for key, origin in self.origins.items() if origin == SET}
        return Card(
            f"station {self.bench}",
            f"{self.mode}, {layout.rows} × {layout.columns}",
            {"file": self.path, **named, **changed},
        )

    def values(self) -> dict[str, Any]:
        """Dotted key → effective value, in the file's order."""
        return dict(_leaves(self.station.model_dump()))

    def to_toml(self) -> str:
        """The effective station as a file that loads to the same values."""
        return toml_text.dumps(self.station.model_dump())


def load_station(path: str | Path | None = None, overrides: Sequence[str] = ()) -> LoadedStation:
    """Read a station file, or the embedded mock station when ``path`` is None.

    Parameters
    ----------
    path
        The station file (TOML).
    overrides
        ``"acquisition.exposure_s=0.02"``: the value is read as TOML, and as a plain string if it is none.

    Raises
    ------
    ConfigError
        Not TOML, an unknown key (with the nearest known one), a wrong type or a value outside its range.
    UsageError
        No such file, or an override without ``=``.

    Examples
    --------
    >>> import labctl
    >>> loaded = labctl.load_station(overrides=["layout.rows=64"])
    >>> loaded.station.layout.rows, loaded.origins["layout.rows"]
    (64, '--set')
    """
    path = data_path("stations/mock.toml") if path is None else Path(path)
    text = _read(path)
    try:
        document = parse_toml(text, path)
    except FileRefused as error:
        raise ConfigError(
            f"{error.what}: {error.seen or error.expected}", device=str(path), action="reading the station file"
        ) from error
    lines = _key_lines(text)
    origins = {key: f"{path}:{lines[key]}" if key in lines else str(path) for key, _ in _leaves(document)}
    for override in overrides:
        for path_to, value in _paths(_parse_override(override)):
            _put(document, path_to, value)
            origins[".".join(path_to)] = SET
    _require_roles(document, path, origins)
    try:
        station = Station.model_validate(document)
    except ValidationError as error:
        raise _config_error(error, path, origins) from error
    effective = dict(_leaves(station.model_dump()))
    return LoadedStation(station, {key: origins.get(key, DEFAULT) for key in effective}, path)


def find_station(bench: str | None) -> Path | None:
    """The file that ``--bench`` names: a path, or the name of a station that ships with the suite.

    Raises
    ------
    UsageError
        When it is neither.
    """
    if not bench:
        return None
    if Path(bench).exists():
        return Path(bench)
    shipped = {file.stem: file for file in sorted(data_path("stations").glob("*.toml"))}
    if bench in shipped:
        return shipped[bench]
    raise UsageError(
        "no such station",
        device=bench,
        expected=f"a station file, or one of: {', '.join(shipped)}",
        hint=did_you_mean(bench, shipped, "make one: labctl station init my-bench.toml"),
    )


def _read(path: Path) -> str:
    try:
        return read_text(path, MOST_BYTES)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(
            "no such station file", device=str(path), hint=f"make one: labctl station init {path.name}"
        ) from error
    except FileRefused as error:
        raise ConfigError(
            f"not a station file: {error.what}", device=str(path), expected=error.expected, seen=error.seen
        ) from error
    except OSError as error:
        raise storage_error(error, path, "reading the station file") from error


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UsageError("--set needs KEY=VALUE", seen=override, hint="for example: --set acquisition.exposure_s=0.02")
    for text in (value.strip(), toml_text.dumps({"v": value})[4:].strip()):
        try:
            parsed = parse_toml(f"{key.strip()} = {text}")
        except FileRefused:
            continue
        if len(dict(_leaves(parsed))) == 1:
            return parsed
    raise UsageError("--set needs KEY=VALUE", seen=override, hint="for example: --set acquisition.exposure_s=0.02")


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for path, value in _paths(table):
        yield ".".join(path), value


def _paths(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _paths(value, (*above, key))
        else:
            yield (*above, key), value


def _put(document: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *tables, last = path
    for table in tables:
        inner = document.setdefault(table, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {'.'.join(path)}: {table} is a value, not a table")
        document = inner
    document[last] = value


def _key_lines(text: str) -> dict[str, int]:
    """Dotted key → line, for keys written the usual way: one per line, under a ``[table]`` header."""
    table = ""
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([\w.\-]+)\s*\]", line):
            table = f"{header[1]}."
        elif key := re.match(r"\s*([\w.\-]+)\s*=", line):
            lines.setdefault(table + key[1], number)
    return lines


def _config_error(error: ValidationError, path: Path, origins: Mapping[str, str]) -> ConfigError:
    first, *others = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] == "missing")
    dotted = _dotted(first)
    origin = next((origins[key] for key in origins if key == dotted or key.startswith(f"{dotted}.")), str(path))
    where = f"{path} ({SET})" if origin == SET else origin
    more = f" (and {len(others)} more: {', '.join(map(_dotted, others))})" if others else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        prefix = dotted.rpartition(".")[0]
        return ConfigError(
            f"unknown key {dotted}{more}",
            device=where,
            action="reading the station file",
            expected=f"one of {', '.join(known)}",
            hint=did_you_mean(first["loc"][-1], known, "all keys: labctl station show", f"{prefix}." if prefix else ""),
        )
    wrong_type = first["type"].endswith("_type") or first["type"] == "missing"
    seen = first["input"]
    mocked = "one of the mock bench" in first["msg"]
    correct = f"correct it in {where}, or leave the key out for its default: docs/reference/station-file.md"
    choices = re.findall(r"'([^']+)'", first["msg"]) if first["type"] == "literal_error" else ()
    return ConfigError(
        f"{'wrong type for' if wrong_type else 'value out of range for'} {dotted or 'the station'}{more}",
        device=where,
        action="reading the station file",
        expected=_expected(first["msg"]),
        seen="" if isinstance(seen, dict | BaseModel) else f"{seen!r} ({type(seen).__name__})",
        hint='leave bench.mode = "mock" until the last device has a backend of its own   ·   labctl devices list'
        if mocked
        else did_you_mean(seen, choices, correct),
    )


def _dotted(problem: ErrorDetails) -> str:
    """``"devices.slm.role"``; of a key that is wrong itself pydantic says ``[key]`` after it."""
    return ".".join(str(step) for step in problem["loc"] if step != "[key]")


def _expected(message: str) -> str:
    if message == "Field required":
        return "a value"
    return message.removeprefix("Value error, ").removeprefix("Input should be ").removesuffix(".")


def _require_roles(document: Mapping[str, Any], path: Path, origins: Mapping[str, str]) -> None:
    """A device whose name is no role says what it is for."""
    devices = document.get("devices")
    for name, table in devices.items() if isinstance(devices, Mapping) else ():
        if isinstance(table, Mapping) and "role" not in table and name not in ROLES:
            origin = next((origins[key] for key in origins if key.startswith(f"devices.{name}.")), str(path))
            raise ConfigError(
                f"unknown key devices.{name}: no role, and its name is none",
                device=f"{path} ({SET})" if origin == SET else origin,
                action="reading the station file",
                expected=f"role = one of {', '.join(ROLES)}; a device that is named after its role needs none",
                hint=did_you_mean(name, ROLES, "all keys: labctl station show", "devices."),
            )


def _known_keys(location: Sequence[int | str]) -> list[str]:
    model: type[BaseModel] = Station
    for step in location:
        inner = DeviceTable if issubclass(model, Devices) else model.model_fields[str(step)].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        model = inner
    return list(model.model_fields)
