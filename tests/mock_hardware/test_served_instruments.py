"""The served meter and the served laser answer as their manuals would have it."""

from __future__ import annotations

import math
import os
import socket
from types import SimpleNamespace

import pytest

from drivers.errors import CapabilityError
from mock_hardware.served import serial_laser
from mock_hardware.served.scpi_meter import ERRORS_MAX, LINE_MAX, MeterServer, PowerMeter
from mock_hardware.served.serial_laser import LaserControls, SerialLaser


@pytest.fixture
def meter():
    return PowerMeter(lambda: 1e-3)


def errors_of(meter):
    found = []
    while not (answer := meter.answer("SYST:ERR?")).startswith("+0"):
        found.append(answer)
    return found


@pytest.mark.parametrize(
    "header", ["SENSe:CORRection:WAVelength", "sens:corr:wav", "CORR:WAV", ":SENS:corr:WAVelength"]
)
def test_headers_are_long_or_short_in_any_case(meter, header):
    assert meter.answer(f"{header} 633") is None
    assert float(meter.answer(f"{header}?")) == 633
    assert errors_of(meter) == []


@pytest.mark.parametrize("header", ["SENSE:CORR:WAVE?", "SEN:CORR:WAV?", "MEAS:VOLT?", "*IDN", "?", ":"])
def test_other_headers_are_undefined(meter, header):
    assert meter.answer(header) is None
    assert errors_of(meter) == ['-113,"Undefined header"']


def test_several_messages_in_a_line_go_down_the_same_path(meter):
    line = "SENS:CORR:WAV 500;WAV?;*IDN?;WAV? MAX;:SENS:POW:UNIT?"
    assert meter.answer(line) == "5.000000000E+02;labctl,Mock PM100,000001,1.0;1.100000000E+03;W"


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("SENS:CORR:WAV", -109),
        ("SENS:CORR:WAV 399", -222),
        ("SENS:CORR:WAV nan", -222),
        ("SENS:CORR:WAV red", -104),
        ("SENS:POW:UNIT V", -224),
        ("*IDN? 1", -108),
        ("SENS:AVER:COUN 0", -222),
    ],
)
def test_command_that_makes_no_sense_changes_nothing_and_waits_in_the_queue(meter, line, number):
    before = meter.answer("SENS:CORR:WAV?;:SENS:POW:UNIT?;:SENS:AVER?")
    assert meter.answer(line) is None
    (error,) = errors_of(meter)
    assert error.startswith(f"{number},")
    assert meter.answer("SENS:CORR:WAV?;:SENS:POW:UNIT?;:SENS:AVER?") == before


def test_queue_that_is_full_says_so(meter):
    for _ in range(2 * ERRORS_MAX):
        meter.answer("FOO")
    found = errors_of(meter)
    assert len(found) == ERRORS_MAX
    assert found[-1] == '-350,"Queue overflow"'


def test_power_is_in_watts_or_dbm_and_follows_the_wavelength(meter):
    meter.answer("SENS:CORR:WAV 633")
    assert float(meter.answer("MEAS:POW?")) == pytest.approx(1e-3, rel=1e-9)
    meter.answer("SENS:CORR:WAV 844")
    assert float(meter.answer("READ?")) == pytest.approx(0.75e-3, rel=1e-9)
    meter.answer("SENS:POW:UNIT DBM")
    assert float(meter.answer("MEASURE:SCALAR:POWER?")) == pytest.approx(10 * math.log10(0.75), abs=1e-8)
    meter.answer("*RST")
    assert meter.answer("SENS:POW:UNIT?") == "W"


def test_no_light_in_dbm_is_below_the_range_of_numbers():
    meter = PowerMeter(lambda: 0.0)
    meter.answer("SENS:POW:UNIT DBM")
    assert float(meter.answer("READ?")) == -9.9e37


def test_line_that_does_not_end_is_cut_and_noted(meter):
    with MeterServer(meter) as server, socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.sendall(b"A" * (LINE_MAX + 1))
        assert connection.recv(1) == b""
    assert errors_of(meter) == ['-363,"Input buffer overrun"']


def test_meter_is_closed_twice_and_its_clients_with_it(meter):
    server = MeterServer(meter)
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.sendall(b"*IDN?\n")
        assert connection.recv(100).startswith(b"labctl")
        server.close()
        server.close()
        assert connection.recv(1) == b""


def test_laser_answers_as_its_dialogue_says():
    state = {"lit": False, "open": ""}
    controls = LaserControls(
        on=lambda: state.update(lit=True),
        off=lambda: state.update(lit=False),
        is_on=lambda: state["lit"],
        interlock=lambda: state["open"],
    )
    if os.name != "posix":
        pytest.skip("pseudo-terminals are POSIX")
    with SerialLaser(controls) as laser:
        said = [laser.answer(line) for line in ("id?", "STATE?", "on", "State?", "OFF", "STATE?", "INTERLOCK?", "x")]
        state["open"] = "door"
        said += [laser.answer(line) for line in ("ON", "STATE?", "INTERLOCK?")]
    assert said == [
        "labctl served laser 000001", "OFF", "OK", "ON", "OK", "OFF", "CLOSED", "ERROR unknown command",
        "ERROR interlock", "OFF", "OPEN door",
    ]  # fmt: skip


def test_laser_is_refused_in_words_where_there_are_no_pseudo_terminals(monkeypatch):
    monkeypatch.setattr(serial_laser, "os", SimpleNamespace(name="nt"))
    with pytest.raises(CapabilityError, match="needs Linux or macOS"):
        SerialLaser(LaserControls(print, print, bool))


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX's")
def test_link_to_the_laser_takes_no_file_and_no_other_lasers_place(tmp_path):
    controls = LaserControls(lambda: None, lambda: None, lambda: False)
    file, link = tmp_path / "precious", tmp_path / "laser"
    file.write_text("data", encoding="utf-8")
    with pytest.raises(CapabilityError, match="taken"):
        SerialLaser(controls, file)
    assert file.read_text(encoding="utf-8") == "data"
    link.symlink_to(tmp_path / "left behind by a kill")
    with SerialLaser(controls, link):
        leads_to = link.readlink()
        with pytest.raises(CapabilityError, match="taken"):
            SerialLaser(controls, link)
        assert link.readlink() == leads_to
    assert not link.is_symlink()
    with SerialLaser(controls, link):
        assert link.is_symlink()
