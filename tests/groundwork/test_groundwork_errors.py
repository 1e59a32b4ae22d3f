"""The base of all errors."""

from __future__ import annotations

import doctest
import pickle
import traceback

import pytest

import groundwork.errors
from calibration.errors import CalibrationError, FitError
from drivers.errors import DeviceError, DeviceTimeout
from groundwork.errors import CodedError
from labctl.errors import LabError

FACTS = ("device", "action", "expected", "seen", "safe", "hint")


@pytest.mark.parametrize("family", [CalibrationError, DeviceError, LabError])
def test_the_three_families_are_built_on_one_class(family: type[CodedError]) -> None:
    assert family.__bases__ == (CodedError,)
    assert "__init__" not in vars(family)


def test_an_error_carries_what_it_was_given_and_nothing_else() -> None:
    told = {name: name.upper() for name in FACTS}
    error = DeviceTimeout("no frame", **told)
    assert error.what == str(error) == "no frame"
    assert {name: getattr(error, name) for name in FACTS} == told
    assert {getattr(FitError("x"), name) for name in FACTS} == {""}


def test_an_error_survives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(FitError("no light", device="bench", hint="switch it on")))  # noqa: S301
    assert (type(error), error.what, error.device, error.hint) == (FitError, "no light", "bench", "switch it on")


def test_notes_that_come_along_from_another_process_change_nothing() -> None:
    error = FitError("no light", hint="switch it on")
    error.__notes__ = ["as tblib does"]
    error.add_note("as Hypothesis does")
    assert error.__notes__ == [FitError.code, "  try: switch it on"]


def test_the_example_in_the_docstring_works() -> None:
    found = doctest.testmod(groundwork.errors)
    assert found.attempted
    assert not found.failed


def test_a_traceback_in_python_says_what_to_do_next_as_the_command_line_does() -> None:
    error = DeviceError("no frame", device="camera", seen="none within 2 s", hint="labctl devices list")
    error.hint += "   ·   again"  # whoever catches it may know more
    printed = "".join(traceback.format_exception_only(error)).splitlines()
    told = ["  on: camera", "  seen: none within 2 s", "  try: labctl devices list   ·   again"]
    assert printed[1:] == [DeviceError.code, *told]
