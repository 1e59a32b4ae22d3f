"""Whether a station's devices could be opened, as far as that is known without opening one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import DeviceError
from drivers.registry import check_options
from labctl.bench.bench import open_context
from labctl.errors import LabError
from labctl.station.loading import LoadedStation
from labctl.station.secrets import read_secrets
from labctl.workload import read_workload


@dataclass(frozen=True)
class CheckedRow:
    """One row of ``labctl station check``: what was looked at, ``PASS``, ``WARN`` or ``FAIL``, what was seen, a fix."""

    check: str
    state: str
    detail: str
    fix: str = ""


def check_station(loaded: LoadedStation) -> list[CheckedRow]:
    """One row for the file, one for each device (its backend is installed, fits, takes the options), and nights."""
    context = open_context(loaded.station)
    rows = [CheckedRow("station file", "PASS", str(loaded.path))]
    for name, device in loaded.station.devices.root.items():
        row = CheckedRow(f"devices.{name}", "PASS", device.backend)
        try:
            check_options(device.backend, device.role, device.options, context, name)
        except DeviceError as error:
            facts = f" (expected {error.expected}, seen {error.seen})" if error.expected else ""
            row = CheckedRow(row.check, "FAIL", f"{error.code} {error.what}{facts}", error.hint)
        rows.append(row)
    return [*rows, *_nights(loaded)]


def _nights(loaded: LoadedStation) -> Iterator[CheckedRow]:
    """What a night would fail for, or could tell nobody; nothing for a station that says nothing of nights."""
    nightly = loaded.station.nightly
    if nightly.workload:
        yield _held_out(loaded.path.parent / nightly.workload)
    if nightly.notify:
        yield _program(nightly.notify[0])
    secrets = read_secrets(loaded.bench)
    for key, variable in (("webhook_env", nightly.webhook_env), ("ping_env", nightly.ping_env)):
        if not variable:
            continue
        if secrets.knows(variable):
            yield CheckedRow(f"nightly.{key}", "PASS", f"{variable} is set")
        else:
            words = f"{variable} is set neither here nor in {secrets.path}: nobody hears of a night this way"
            yield CheckedRow(f"nightly.{key}", "WARN", words, f"a line {variable}=https://… in {secrets.path}")
    folder = Path(nightly.metrics_folder).expanduser()
    if nightly.metrics_folder and not folder.is_dir():
        yield CheckedRow("nightly.metrics_folder", "WARN", f"{folder} does not exist", f"mkdir -p {folder}")
    for problem in secrets.problems:
        yield CheckedRow("nightly secrets", "WARN", problem, f"chmod 600 {secrets.path}, NAME=value lines")


def _held_out(path: Path) -> CheckedRow:
    try:
        products = read_workload(path).products
    except LabError as error:
        facts = f" (expected {error.expected}, seen {error.seen})" if error.expected else ""
        return CheckedRow("nightly.workload", "FAIL", f"{error.code} {path}: {error.what}{facts}", error.hint)
    return CheckedRow("nightly.workload", "PASS", f"{products} products in {path}")


def _program(name: str) -> CheckedRow:
    found = shutil.which(name)
    if found is None:
        words = f"{name} does not exist, or is not executable: nobody hears of a night this way"
        return CheckedRow("nightly.notify", "FAIL", words, f"chmod +x {name}, or name another program")
    return CheckedRow("nightly.notify", "PASS", found)
