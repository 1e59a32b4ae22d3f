"""A quantity takes an answer for a number only when it is one, and one that the station allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import OptionError
from drivers.libraries.wired import Quantity, SetUp


@given(st.floats(-1e30, 1e30))
def test_number_in_any_notation_of_scpi_is_read(number):
    quantity = Quantity(ask="P?", unit="W")
    assert quantity.of(repr(number)) == number
    assert quantity.of(f"{number:+.9E}") == pytest.approx(number, rel=1e-9)


@pytest.mark.parametrize("answer", ["", " ", "W", "1 W", "1,5", "0x1F", "1e", "--1", "1_0", "nan", "inf", "1\n2", "９"])
def test_what_is_no_number_is_refused(answer):
    with pytest.raises(ValueError, match="matches"):
        Quantity(ask="P?", unit="W").of(answer)


@pytest.mark.parametrize("answer", ["A", "V=", "V=nan", "V=1_0", "V=9.91E37", "V=-9.9E37", "V=1e999"])
def test_pattern_that_catches_no_number_is_refused(answer):
    with pytest.raises(ValueError, match=r"a number in the group|a value"):
        Quantity(ask="P?", unit="W", expect="A|V=(?P<value>.*)").of(answer)


def test_limits_are_in_the_unit_of_the_reading():
    quantity = Quantity(ask="P?", unit="mW", scale=1e3, low=1, high=2)
    assert quantity.of("1e-3") == 1.0
    with pytest.raises(ValueError, match="1 … 2 mW"):
        quantity.of("1")


@pytest.mark.parametrize("line", ["", " ", "A?\n", "A?\rB?", "µ?", "A\t1", "A\0"])
def test_what_is_no_line_of_dialogue_is_refused(line):
    with pytest.raises(OptionError):
        Quantity(ask=line, unit="W")
    with pytest.raises(OptionError):
        SetUp(commands=(line,))
