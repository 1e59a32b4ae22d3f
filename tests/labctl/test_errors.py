"""Errors and verdicts: one code each, documented, raised somewhere, shown as the operator needs them."""

from __future__ import annotations

import ast
import errno
import inspect
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibration.errors import CalibrationError, FitError
from drivers.errors import CapabilityError, DeviceError, DeviceTimeout, OptionError
from groundwork.errors import CodedError, FileRefused
from labctl.errors import (
    ConfigError,
    DiskFull,
    LabError,
    NotWritable,
    StorageError,
    UsageError,
    catalogue,
    render,
    storage_error,
)
from labctl.verdicts import VERDICTS, Verdict, exit_codes, explain_exit, verdict_of

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["importlinter"]["root_packages"]
FAMILIES = (LabError, DeviceError, CalibrationError, FileRefused)


def sources() -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        yield from ((path, path.read_text(encoding="utf-8")) for path in sorted((ROOT / package).rglob("*.py")))


def called_names(text: str) -> set[str]:
    calls = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return {f.id if isinstance(f, ast.Name) else f.attr for f in calls if isinstance(f, ast.Name | ast.Attribute)}


def test_every_code_is_unique_and_has_a_meaning_and_a_verdict() -> None:
    rows = catalogue()
    assert len({row.code for row in rows}) == len(rows)
    assert all(row.meaning.endswith(".") for row in rows)
    assert {row.exit_code for row in rows} <= {code for row in VERDICTS for code in row.exit_codes}


def test_every_code_is_raised_somewhere() -> None:
    """The head of a family only holds it together; every other class is raised, or returned to be raised."""
    left = {row.name for row in catalogue()} - {family.__name__ for family in FAMILIES}
    for _, text in sources():
        if any(f"{name}(" in text for name in left):  # to parse all of them takes seconds
            left -= called_names(text)
    assert left == set()


def test_no_code_is_defined_outside_the_families() -> None:
    families = {Path(inspect.getfile(family)) for family in FAMILIES}
    strays = [
        path.relative_to(ROOT).as_posix()
        for path, text in sources()
        if path not in families and re.search("[\"']E-", text)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Constant)
        and str(node.value.value).startswith("E-")
    ]
    assert strays == []


@pytest.mark.parametrize("error", [LabError("a"), DeviceError("b"), CalibrationError("c"), FitError("d")])
def test_all_families_are_coded(error: Exception) -> None:
    assert isinstance(error, CodedError)
    assert not isinstance(ValueError("x"), CodedError)


def test_rendering_says_what_on_what_doing_what_state_and_next_step() -> None:
    error = DeviceTimeout(
        "no frame within 2.0 s",
        device="camera acA1920 #2271",
        action="block 41 of crosstalk",
        expected="64 frames",
        seen="12 frames",
        safe="SLM blanked, blocks 0–40 sealed",
        hint="labctl devices list",
    )
    assert render(error, "20261123T020003Z-nightly-k7f2").splitlines() == [
        "E-DEV-003  camera acA1920 #2271: no frame within 2.0 s (block 41 of crosstalk)",
        "  expected 64 frames; seen 12 frames",
        "  state: SLM blanked, blocks 0–40 sealed",
        "  try:  labctl devices list   ·   the run: labctl run show k7f2",
    ]
    assert render(UsageError("no")) == "E-USE-001  no"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DeviceTimeout("lost"), True),
        (DiskFull("full"), True),
        (UsageError("no"), False),
        (FitError("NaN"), False),
        (DeviceTimeout("lost", hint="close it, then: labctl run resume latest"), False),
        (CapabilityError("exposure out of range"), False),
    ],
)
def test_only_an_error_that_need_not_come_again_says_how_to_go_on(error: CodedError, told: bool) -> None:
    short = render(error, "20261123T020003Z-nightly-k7f2", goes_on=True)
    assert ("go on: labctl run resume k7f2   ·   the run: labctl run show k7f2" in short) is told
    assert "go on:" not in render(error, "20261123T020003Z-nightly-k7f2")


@pytest.mark.parametrize("error", [CapabilityError("exposure"), OptionError("no such option"), ConfigError("no key")])
def test_wrong_station_is_put_right_and_not_gone_on_with(error: CodedError) -> None:
    short = render(error, "20261123T020003Z-nightly-k7f2", goes_on=True)
    assert "put it right in the station, and type the command anew" in short
    assert "run resume" not in short
    assert "put it right" not in render(error)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EROFS, NotWritable),
        (errno.EACCES, NotWritable),
        (errno.EIO, StorageError),
    ],
)
def test_operating_system_errors_get_their_code(tmp_path: Path, number: int, kind: type[StorageError]) -> None:
    error = storage_error(OSError(number, os.strerror(number)), tmp_path / "absent" / "x", "writing")
    assert type(error) is kind
    assert error.exit_code == 22
    assert str(tmp_path) in error.device


def test_file_amid_a_path_is_named_and_what_only_reads_is_not_called_unwritable(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    error = storage_error(OSError(errno.ENOTDIR, "Not a directory"), tmp_path / "a" / "b", "making the run folder")
    assert error.seen == f"{tmp_path / 'a'} is no folder"
    assert storage_error(OSError(errno.EACCES, "denied"), tmp_path, "reading").what == "cannot read this"
    assert storage_error(OSError(errno.EACCES, "denied"), tmp_path, "writing").what == "cannot write here"


def test_exit_codes_and_verdicts_map_onto_each_other() -> None:
    codes = [code for row in VERDICTS for code in row.exit_codes]
    assert len(set(codes)) == len(codes)
    assert {row.verdict for row in VERDICTS} == set(Verdict)
    assert all(verdict_of(code) is row.verdict for row in VERDICTS for code in row.exit_codes)
    assert exit_codes(Verdict.ABORTED) == (130, 143)
    assert exit_codes(Verdict.CRASHED) == ()
    assert verdict_of(ConfigError.exit_code) is Verdict.USAGE
    assert verdict_of(99) is Verdict.ERROR


def test_unknown_exit_code_is_refused_with_the_list() -> None:
    assert explain_exit(21).verdict is Verdict.INTERLOCK
    with pytest.raises(UsageError) as caught:
        explain_exit(99)
    assert "130, 143" in caught.value.expected
