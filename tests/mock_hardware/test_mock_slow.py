"""The mock's power meter, thermometer and interlock."""

import numpy as np
import pytest

from drivers import Ok, OpenContext, Roi, Trip, open_device

TABLE = {
    "camera": {"rows": 32, "cols": 32, "temperature_c": 31.5},
    "slm": {"rows": 32, "cols": 32},
    "display": {"rows": 32, "cols": 32},
    "source": {"power_mw": 2.5},
    "drift": {"power_walk_per_sqrt_s": 0.05},
}


def station(**options):
    context = OpenContext({"mock": {**TABLE, "faults": options.pop("faults", [])}})
    devices = {
        "source": open_device("mock.source", "source", {}, context),
        "camera": open_device("mock.camera", "camera", {}, context),
        "interlock": open_device("mock.interlock", "interlock", options.pop("interlock", {}), context),
        "monitor": open_device("mock.monitor", "monitor", options, context),
    }
    devices["camera"].roi = Roi(0, 0, 8, 8)
    return devices


def pass_frames(devices, n):
    devices["camera"].arm(1, skip=n - 1)
    devices["camera"].fetch(100.0)


def test_power_follows_the_source_and_its_drift():
    devices = station(power_noise_rel=0.0)
    assert devices["monitor"].read().value == 0.0
    devices["source"].on()
    bench = devices["camera"].bench
    for _ in range(5):
        pass_frames(devices, 60)
        reading = devices["monitor"].read()
        assert reading.value == pytest.approx(2.5e-3 * bench.drift.power(bench.clock_s), rel=1e-12)
        assert (reading.unit, reading.at_s) == ("W", bench.clock_s)
    assert reading.value != pytest.approx(2.5e-3, rel=1e-3)


def test_noise_of_a_power_reading_is_relative_and_as_large_as_its_option_says():
    devices = station(power_noise_rel=0.01)
    devices["source"].on()
    values = np.array([devices["monitor"].read().value for _ in range(4000)])
    assert values.std() / values.mean() == pytest.approx(0.01, rel=4 / np.sqrt(2 * 4000))
    assert values.mean() == pytest.approx(2.5e-3, rel=4 * 0.01 / np.sqrt(4000))


def test_temperature_is_that_of_the_sensor():
    devices = station(quantity="temperature", temperature_noise_c=0.2)
    readings = [devices["monitor"].read() for _ in range(1000)]
    values = np.array([reading.value for reading in readings])
    assert readings[0].unit == "degC"
    assert values.mean() == pytest.approx(31.5, abs=4 * 0.2 / np.sqrt(1000))
    assert values.std() == pytest.approx(0.2, rel=4 / np.sqrt(2 * 1000))


def test_interlock_is_closed_unless_its_options_say_otherwise():
    assert station()["interlock"].check() == Ok()
    assert station(interlock={"tripped": "laser key removed"})["interlock"].check() == Trip("laser key removed")


def test_fault_script_opens_the_interlock_for_a_while():
    devices = station(faults=["interlock@10:5"])
    answers = []
    for _ in range(20):
        answers.append(isinstance(devices["interlock"].check(), Trip))
        pass_frames(devices, 1)
    assert [k for k, is_open in enumerate(answers) if is_open] == [10, 11, 12, 13, 14]
    assert "fault script" in station(faults=["interlock@0"])["interlock"].check().reason
