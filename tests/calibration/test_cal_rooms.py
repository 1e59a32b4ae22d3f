"""The rooms of `calibration` hand on their public names."""

import importlib
import inspect

import pytest

ROOMS = ["statistics", "machine", "frames", "bench", "fit", "judge"]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_hands_on_names_of_its_own_that_say_what_they_are(room):
    package = importlib.import_module(f"calibration.{room}")
    assert package.__all__
    for name in package.__all__:
        part = getattr(package, name)
        if inspect.isclass(part) or inspect.isfunction(part):
            assert part.__module__.startswith(f"calibration.{room}."), f"{name} is of {part.__module__}"
            assert inspect.getdoc(part), f"{name} has no docstring"


def test_no_name_is_handed_on_by_two_rooms():
    names = [name for room in ROOMS for name in importlib.import_module(f"calibration.{room}").__all__]
    assert len(names) == len(set(names))
