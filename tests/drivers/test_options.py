"""Options of a backend are typed; a refusal names the key, what is expected, what was seen, and what may be meant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from drivers import Checked, NoOptions, OpenContext, OptionError, RoleError, check_options, option
from drivers.options import merge, parse


@dataclass(frozen=True)
class Cooler(Checked):
    target_c: float = option(-40, 30, -10.0)


@dataclass(frozen=True)
class Options(Checked):
    serial: str
    gain_db: float = option(0, 24, 0.0)
    binning: int = option(1, 4, 1)
    is_mono: bool = True
    trigger: Literal["free", "edge"] = "free"
    window: tuple[int, ...] = ()
    timeout_s: float | None = option(0.1, 60, None)
    cooler: Cooler = field(default_factory=Cooler)
    nodes: Mapping[str, Any] = field(default_factory=dict)


def test_table_becomes_typed_options():
    table = {
        "serial": "0231",
        "gain_db": 3,
        "window": [1, 2],
        "trigger": "edge",
        "timeout_s": 5,
        "cooler": {"target_c": -20},
        "nodes": {"LineMode": "Input"},
    }
    assert parse(Options, table, "devices.camera") == Options(
        "0231", 3.0, 1, True, "edge", (1, 2), 5.0, Cooler(-20.0), {"LineMode": "Input"}
    )


def test_integer_becomes_the_real_number_that_is_asked_for():
    assert isinstance(parse(Options, {"serial": "", "gain_db": 3}, "x").gain_db, float)


@pytest.mark.parametrize(
    ("change", "key", "expected", "seen"),
    [
        ({"gain_dB": 3.0}, "devices.camera.gain_dB", "one of serial, gain_db", "gain_dB"),
        ({"gain_db": "much"}, "devices.camera.gain_db", "a finite number", "'much'"),
        ({"gain_db": float("nan")}, "devices.camera.gain_db", "a finite number", "nan"),
        ({"gain_db": 25}, "devices.camera.gain_db", "0 … 24", "25.0"),
        ({"binning": 1.5}, "devices.camera.binning", "a whole number", "1.5"),
        ({"binning": True}, "devices.camera.binning", "a whole number", "True"),
        ({"is_mono": 1}, "devices.camera.is_mono", "true or false", "1"),
        ({"serial": 231}, "devices.camera.serial", "a string", "231"),
        ({"trigger": "level"}, "devices.camera.trigger", "one of 'free', 'edge'", "'level'"),
        ({"window": 3}, "devices.camera.window", "a list, each entry a whole number", "3"),
        ({"window": [1, "2"]}, "devices.camera.window[1]", "a whole number", "'2'"),
        ({"timeout_s": 100}, "devices.camera.timeout_s", "0.1 … 60", "100.0"),
        ({"cooler": 3}, "devices.camera.cooler", "a table", "3"),
        ({"cooler": {"target_c": 99}}, "devices.camera.cooler.target_c", "-40 … 30", "99.0"),
        ({"nodes": []}, "devices.camera.nodes", "a table", "[]"),
    ],
)
def test_refusal_names_key_expected_and_seen(change, key, expected, seen):
    with pytest.raises(OptionError) as error:
        parse(Options, {"serial": "0231", **change}, "devices.camera")
    assert key in error.value.what
    assert error.value.expected.startswith(expected)
    assert error.value.seen == seen
    assert (error.value.code, error.value.exit_code) == ("E-DEV-009", 2)


def test_near_miss_is_suggested():
    with pytest.raises(OptionError) as error:
        parse(Options, {"serial": "0231", "binnning": 2}, "devices.camera")
    assert error.value.hint == "did you mean binning?"


def test_word_that_is_no_choice_is_not_called_a_wrong_type():
    with pytest.raises(OptionError, match=r"devices\.camera\.trigger is none of its choices") as error:
        parse(Options, {"serial": "0231", "trigger": "egde"}, "devices.camera")
    assert error.value.hint == "did you mean edge?"


def test_option_without_a_default_must_be_given():
    with pytest.raises(OptionError, match=r"devices\.camera\.serial is missing") as error:
        parse(Options, {}, "devices.camera")
    assert error.value.expected == "a string"


def test_range_is_checked_however_the_options_are_made():
    with pytest.raises(OptionError, match=r"Options\.binning"):
        Options("0231", binning=5)


def test_merge_changes_only_what_is_named():
    default = Options("0231", 6.0, cooler=Cooler(-30.0))
    assert merge(default, {"binning": 2, "cooler": {}}, "x") == Options("0231", 6.0, 2, cooler=Cooler(-30.0))


def test_backend_without_options_says_so():
    with pytest.raises(OptionError) as error:
        parse(NoOptions, {"colour": "red"}, "devices.slm")
    assert error.value.expected == "no options"


def test_station_check_reads_options_and_the_bench_and_opens_nothing():
    context = OpenContext({"mock": {"camera": {"bit_depth": 10}}})
    assert check_options("mock.camera", "camera", {}, context) == NoOptions()
    assert check_options("mock.monitor", "monitor", {"quantity": "temperature"}, context).quantity == "temperature"
    assert context.resources.held() == ()


@pytest.mark.parametrize(
    ("backend", "role", "options", "mock", "error", "words"),
    [
        ("mock.slm", "camera", {}, {}, RoleError, "is no camera"),
        ("mock.truth", "monitor", {}, {}, RoleError, "is no monitor"),
        ("mock.monitor", "monitor", {"quantity": "humidity"}, {}, OptionError, r"devices\.monitor\.quantity"),
        ("mock.source", "source", {}, {"source": {"power_w": 1}}, OptionError, r"mock\.source\.power_w"),
        ("region", "slm", {"panel": "mock.slm"}, {}, OptionError, r"devices\.slm\.x is missing"),
    ],
)
def test_station_check_finds_what_would_not_open(backend, role, options, mock, error, words):
    with pytest.raises(error, match=words) as refused:
        check_options(backend, role, options, OpenContext({"mock": mock}))
    assert refused.value.device == role
