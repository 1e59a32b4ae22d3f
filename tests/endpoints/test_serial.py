"""Devices on serial lines: our served laser on a pseudo-terminal, and instruments at the other end of socat's cable."""

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest
from processes import LIMIT_S
from scpi_servers import Misbehaving
from serial_ends import SocatLine

from drivers import (
    CapabilityError,
    DeviceError,
    DeviceLost,
    DeviceProtocolError,
    DeviceTimeout,
    NotConnected,
    Ok,
    OpenContext,
    OptionError,
    Trip,
    find_backend,
    open_device,
)
from drivers.testing import InterlockContract, LightSourceContract, MonitorContract, require_program
from mock_hardware.served.scpi_meter import PowerMeter
from mock_hardware.served.serial_laser import LaserControls, SerialLaser

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")

DEADLINE_S = 0.5
SLACK_S = 30.0
"""A loaded machine may be late by so much; a call that hangs would exceed it by the test's own time-out."""
PATIENCE_S = 60.0
"""Of an instrument, where nobody says how long a call may take: what ends in time is not waiting for that."""
LINE = {"baud": 115200, "identity": "ID?", "identity_expect": "served laser"}
LASER = {**LINE, "answer": "OK", "on": "ON", "off": "OFF", "state": "STATE?", "state_on": "ON", "state_off": "OFF"}


class Light:
    """What a served laser switches; it is on before anybody opens it."""

    def __init__(self):
        self.is_lit, self.open_because = True, ""
        self.controls = LaserControls(self.on, self.off, lambda: self.is_lit, lambda: self.open_because)

    def on(self):
        self.is_lit = True

    def off(self):
        self.is_lit = False


@pytest.fixture
def light():
    return Light()


@pytest.fixture
def laser(light, tmp_path):
    with SerialLaser(light.controls, tmp_path / "laser") as laser:
        yield laser


@pytest.fixture
def cable(tmp_path):
    """Makes one end of a cable with an instrument at the other that behaves as told."""
    socat = require_program("socat", "apt-get install socat")
    lines = []

    def plug(behave, end=b"\r\n", name="cable"):
        folder = tmp_path / f"{name}{len(lines)}"
        folder.mkdir()
        lines.append(SocatLine(folder, socat, behave, end))
        return lines[-1]

    yield plug
    for line in lines:
        line.pull()


def source(laser, context=None, **options):
    return open_device("serial.source", "source", {"port": laser.port, **LASER, **options}, context or OpenContext())


class TestServedLaser(LightSourceContract):
    @pytest.fixture(autouse=True)
    def endpoint(self, laser):
        self.laser = laser

    def open(self):
        return source(self.laser)


class TestLaserInterlock(InterlockContract):
    @pytest.fixture(autouse=True)
    def endpoint(self, laser, light):
        self.laser, self.light = laser, light

    def open(self):
        options = {"port": self.laser.port, **LINE, "ask": "INTERLOCK?", "closed": "CLOSED", "reason": "door"}
        return open_device("serial.interlock", "door", options, OpenContext())

    def trip(self):
        self.light.open_because = "enclosure open"
        return self.open()


class TestThermometerBySocat(MonitorContract):
    @pytest.fixture(autouse=True)
    def endpoint(self, cable):
        self.line = cable(lambda line, say: say(b"T=23.5 C\r\n"))

    def open(self):
        options = {"port": self.line.port, "ask": "TEMP?", "expect": "T=(?P<value>.*) C", "unit": "degC"}
        return open_device("serial.monitor", "temperature", options, OpenContext())


class Sc10:
    """A shutter controller that repeats what it is sent, ends with a prompt, and has one button for open and closed."""

    def __init__(self, is_open=True):
        self.is_open = is_open

    def __call__(self, line, say):
        words = f"{line}\r"
        if line == "ens":
            self.is_open = not self.is_open
        elif line == "ens?":
            words += f"{int(self.is_open)}\r"
        say((words + "> ").encode())


BUTTON = {"write_end": "\r", "read_end": "> ", "echo": True, "on": "ens", "off": "ens", "state": "ens?"}


class TestShutterWithOneButton(LightSourceContract):
    @pytest.fixture(autouse=True)
    def endpoint(self, cable):
        self.line = cable(Sc10(), b"\r")

    def open(self):
        options = {"port": self.line.port, **BUTTON, "state_on": "1", "state_off": "0"}
        return open_device("serial.source", "shutter", options, OpenContext())

    def test_pressing_twice_changes_nothing(self, device):
        device.on()
        device.on()
        assert device.is_on


def test_laser_that_is_on_is_off_once_it_is_opened_and_closed(laser, light):
    with source(laser):
        assert not light.is_lit
    light.is_lit = True
    opened = source(laser)
    opened.on()
    opened.close()
    assert not light.is_lit


def test_laser_that_refuses_says_why(laser, light):
    with source(laser) as opened:
        light.open_because = "enclosure open"
        with pytest.raises(DeviceProtocolError, match="refuses the command") as refusal:
            opened.on()
        assert "ERROR interlock" in refusal.value.seen


def test_another_instrument_on_the_port_is_told_nothing(laser, light):
    with pytest.raises(DeviceProtocolError, match="another instrument answers"):
        source(laser, identity_expect="SN 77")
    assert light.is_lit


def test_laser_and_its_interlock_share_the_line(laser, light):
    context = OpenContext()
    contact = {"port": laser.port, **LINE, "answer": "OK", "ask": "INTERLOCK?", "closed": "CLOSED"}
    with (
        source(laser, context) as opened,
        open_device("serial.interlock", "door", contact, context) as door,
    ):
        opened.on()
        assert door.check() == Ok()
        light.open_because = "enclosure open"
        assert isinstance(door.check(), Trip)
        with pytest.raises(CapabilityError, match="open already with other settings"):
            open_device("serial.interlock", "another", {**contact, "baud": 9600}, context)
    assert context.resources.held() == ()


def test_port_that_another_program_holds_is_not_connected(laser):
    with source(laser), pytest.raises(NotConnected):
        source(laser)


def test_pulled_cable_is_lost_and_opens_again(light, tmp_path):
    link = tmp_path / "laser"
    with SerialLaser(light.controls, link) as laser:
        opened = source(laser)
        opened.on()
        laser.close()
        begin_s = time.monotonic()
        with pytest.raises(DeviceLost):
            opened.off()
        with pytest.raises(DeviceError) as failed:
            opened.safe_state()
        assert "the light may be on" in failed.value.safe
        with pytest.raises(DeviceError):
            opened.close()
        opened.close()
        assert time.monotonic() - begin_s < LIMIT_S
    assert light.is_lit
    with SerialLaser(light.controls, link) as laser, source(laser) as again:
        assert not light.is_lit
        again.on()
        assert light.is_lit


def test_cable_that_is_plugged_in_again_lets_the_light_be_switched_off(light, tmp_path):
    link = tmp_path / "laser"
    with SerialLaser(light.controls, link) as laser:
        opened = source(laser)
        opened.on()
    with SerialLaser(light.controls, link) as laser:
        with pytest.raises(DeviceLost):
            opened.off()
        assert light.is_lit
        opened.safe_state()
        assert not light.is_lit
        with pytest.raises(DeviceLost):
            opened.on()
        opened.close()


def test_laser_that_answers_nothing_any_more_is_told_to_be_dark_all_the_same(cable):
    heard, answers = [], True

    def behave(line, say):
        heard.append(line)
        if answers:
            say({"ID?": b"served laser\r\n", "STATE?": b"OFF\r\n"}.get(line, b"OK\r\n"))

    opened = open_device("serial.source", "source", {"port": cable(behave).port, **LASER}, OpenContext())
    answers = False
    heard.clear()
    begin_s = time.monotonic()
    with pytest.raises(DeviceTimeout) as timeout:
        opened.safe_state(timeout_s=1.0)
    assert time.monotonic() - begin_s < 1.0 + SLACK_S
    assert "the light may be on" in timeout.value.safe
    assert heard.count("OFF") >= 2
    answers = True
    opened.close()


def test_talk_that_is_broken_off_does_not_shift_the_answers(cable, monkeypatch):
    line = cable(lambda line, say: say(b"1.0\r\n"))
    options = {"port": line.port, "ask": "P?", "unit": "W"}
    with open_device("serial.monitor", "power", options, OpenContext()) as meter:
        with monkeypatch.context() as patch:
            patch.setattr("drivers.libraries.line.SerialLine._line", _broken_off)
            with pytest.raises(KeyboardInterrupt):
                meter.read(PATIENCE_S)
        assert meter.read(PATIENCE_S).value == 1.0


def _broken_off(line, deadline):
    raise KeyboardInterrupt


def test_line_over_the_network_is_a_line():
    with Misbehaving(lambda line, connection: connection.sendall(b"23.5\r\n")) as server:
        options = {"port": f"socket://127.0.0.1:{server.server_address[1]}", "ask": "T?", "unit": "degC"}
        with open_device("serial.monitor", "temperature", options, OpenContext()) as meter:
            assert meter.read(PATIENCE_S).value == 23.5
            server.hang_up()
            time.sleep(0.1)
            with pytest.raises(DeviceLost):
                meter.read(PATIENCE_S)
        with open_device("serial.monitor", "temperature", options, OpenContext()) as meter:
            assert meter.read(PATIENCE_S).value == 23.5


def test_scpi_over_a_serial_line(cable):
    meter = PowerMeter(lambda: 1e-3)

    def behave(line, say):
        answer = meter.answer(line)
        if answer is not None:
            say(answer.encode() + b"\n")

    line = cable(behave, b"\n")
    options = {"address": f"ASRL{line.port}::INSTR", "preset": "pm100", "wavelength_nm": 633, "baud": 115200}
    with open_device("scpi.monitor", "power", options, OpenContext()) as monitor:
        assert monitor.read().value == pytest.approx(1e-3)
        line.pull()
        with pytest.raises(DeviceLost):
            monitor.read()


def test_cable_pulled_while_it_waits_is_lost_before_the_deadline(cable):
    answers = True

    def behave(line, say):
        if answers:
            say(b"1.0\r\n")

    line = cable(behave)
    options = {"port": line.port, "ask": "P?", "unit": "W"}
    meter = open_device("serial.monitor", "power", options, OpenContext())
    answers = False
    threading.Timer(0.3, line.pull).start()
    begin_s = time.monotonic()
    with pytest.raises(DeviceLost):
        meter.read(timeout_s=10 * LIMIT_S)
    assert time.monotonic() - begin_s < LIMIT_S
    meter.close()
    answers = True
    with open_device("serial.monitor", "power", {**options, "port": cable(behave).port}, OpenContext()) as again:
        assert again.read().value == 1.0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (b"", DeviceTimeout),
        (b"1.2", DeviceTimeout),
        (b"\xff\xfe\x00\r\n", DeviceProtocolError),
        (b"OK\r\n", DeviceProtocolError),
        (b"9" * 6000, DeviceProtocolError),
    ],
)
def test_misbehaving_instrument_ends_in_a_coded_error_in_time(cable, words, error):
    good = True
    line = cable(lambda line, say: say(b"1.0\r\n" if good else words))
    options = {"port": line.port, "ask": "P?", "unit": "W", "timeout_s": PATIENCE_S}
    with open_device("serial.monitor", "power", options, OpenContext()) as meter:
        good = False
        begin_s = time.monotonic()
        with pytest.raises(error):
            meter.read(timeout_s=DEADLINE_S)
        assert time.monotonic() - begin_s < DEADLINE_S + SLACK_S
        good = True
        assert meter.read(PATIENCE_S).value == 1.0


def test_instrument_that_never_stops_talking_ends_in_time(cable):
    line = cable(lambda line, say: say(b"1.0\r\n"))
    options = {"port": line.port, "ask": "P?", "unit": "W", "timeout_s": PATIENCE_S}
    with open_device("serial.monitor", "power", options, OpenContext()) as meter:
        is_talking = True

        def talk():
            while is_talking:
                line.say(b"boot\r\n")
                time.sleep(0.005)

        talker = threading.Thread(target=talk)
        talker.start()
        for _ in range(20):
            begin_s = time.monotonic()
            with contextlib.suppress(DeviceProtocolError, DeviceTimeout):
                assert meter.read(timeout_s=0.2).value == 1.0
            assert time.monotonic() - begin_s < 0.2 + SLACK_S
        is_talking = False
        talker.join()
        assert meter.read(PATIENCE_S).value == 1.0


def test_late_answer_is_not_taken_for_the_next_one(cable):
    in_time, given_up, told = True, threading.Event(), threading.Event()

    def behave(line, say):
        if in_time:
            say(b"2\r\n")
        else:
            given_up.wait(LIMIT_S)
            say(b"666\r\n")
            told.set()

    options = {"port": cable(behave).port, "ask": "P?", "unit": "W"}
    with open_device("serial.monitor", "power", options, OpenContext()) as meter:
        in_time = False
        with pytest.raises(DeviceTimeout):
            meter.read(timeout_s=0.3)
        in_time = True
        given_up.set()
        assert told.wait(LIMIT_S)
        assert [meter.read(PATIENCE_S).value for _ in range(5)] == [2.0] * 5


def test_answer_of_several_lines_is_one_answer(cable):
    line = cable(lambda line, say: say(b"channel 1\r\n21.5 C\r\n"))
    options = {"port": line.port, "ask": "T?", "unit": "degC", "answer_lines": 2}
    options["expect"] = r"channel 1\n(?P<value>[\d.]+) C"
    with open_device("serial.monitor", "temperature", options, OpenContext()) as meter:
        assert [meter.read(PATIENCE_S).value for _ in range(3)] == [21.5] * 3


def test_port_that_does_not_exist_is_not_connected(tmp_path):
    with pytest.raises(NotConnected):
        open_device(
            "serial.monitor", "power", {"port": str(tmp_path / "none"), "ask": "P?", "unit": "W"}, OpenContext()
        )


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("serial.source", {**LASER, "port": "x", "state": ""}),
        ("serial.source", {**LASER, "port": "x", "state_off": "ON"}),
        ("serial.source", {**LASER, "port": "x", "state_off": "("}),
        ("serial.source", {**LASER, "port": "x", "baud": 0}),
        ("serial.source", {**LASER, "port": "x", "stop_bits": 3}),
        ("serial.source", {**LASER, "port": ""}),
        ("serial.source", {**LASER, "port": "x", "answer": "["}),
        ("serial.source", {**LASER, "port": "x", "identity": ""}),
        ("serial.monitor", {"port": "x", "ask": "", "unit": "W"}),
        ("serial.monitor", {"port": "x", "ask": "A?\r\nB?", "unit": "W"}),
        ("serial.monitor", {"port": "x", "ask": "µ?", "unit": "W"}),
        ("serial.monitor", {"port": "x", "ask": "A?", "unit": "W", "read_end": "€"}),
        ("serial.interlock", {"port": "x", "ask": "D?", "closed": ".*"}),
        ("serial.interlock", {"port": "x", "ask": "D?", "closed": ""}),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_opens(backend, options):
    with pytest.raises(OptionError):
        open_device(backend, "device", options, OpenContext())


def test_looking_for_ports_writes_to_none(monkeypatch):
    serial = pytest.importorskip("serial")

    def never(*args, **kwargs):
        raise AssertionError("a port was opened")

    monkeypatch.setattr(serial, "serial_for_url", never)
    for found in find_backend("serial.monitor").discover():
        assert found.options["port"]
        assert Path(found.options["port"]).exists()
