"""Devices over SCPI on TCP: against scpipy's server, our served meter, and servers that misbehave."""

import contextlib
import math
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from processes import LIMIT_S
from scpi_servers import Misbehaving, scpipy_server

from drivers import (
    DeviceLost,
    DeviceProtocolError,
    DeviceTimeout,
    NotConnected,
    Ok,
    OpenContext,
    OptionError,
    RoleError,
    Trip,
    find_backend,
    open_device,
)
from drivers.errors import CapabilityError
from drivers.testing import InterlockContract, LightSourceContract, MonitorContract, require_module
from mock_hardware.served.scpi_meter import MeterServer, PowerMeter

INSTALL = "pip install labctl[endpoints]"
DEADLINE_S = 0.5
SLACK_S = 30.0
"""A loaded machine may be late by so much; a call that hangs would exceed it by the test's own time-out."""
PATIENCE_S = 60.0
"""Of an instrument, where nobody says how long a call may take: what ends in time is not waiting for that."""


@pytest.fixture
def instrument():
    return {
        "identity": "Acme,PM1,SN0042,1.0",
        "wavelength": 1310.0,
        "unit": "DBM",
        "averages": 1,
        "power": "1.25E-03",
        "output": "1",
        "contact": "1",
    }


@pytest.fixture
def foreign(instrument):
    """Address of a server that is not ours."""
    require_module("scpipy", INSTALL)
    with scpipy_server(instrument) as address:
        yield address


@pytest.fixture
def served():
    """Our served meter."""
    with MeterServer(PowerMeter(lambda: 2e-3)) as server:
        yield server


def address_of(server):
    return f"TCPIP0::127.0.0.1::{server.port}::SOCKET"


def power_meter(address, context=None, name="power", **options):
    table = {"address": address, "preset": "pm100", "wavelength_nm": 633, **options}
    return open_device("scpi.monitor", name, table, context or OpenContext())


class TestForeignMeter(MonitorContract):
    @pytest.fixture(autouse=True)
    def endpoint(self, foreign):
        self.address = foreign

    def open(self):
        return power_meter(self.address)


class TestServedMeter(MonitorContract):
    @pytest.fixture(autouse=True)
    def endpoint(self, served):
        self.address = address_of(served)

    def open(self):
        return power_meter(self.address)


class TestForeignSource(LightSourceContract):
    @pytest.fixture(autouse=True)
    def endpoint(self, foreign):
        self.address = foreign

    def open(self):
        return open_device("scpi.source", "source", {"address": self.address}, OpenContext())


class TestForeignInterlock(InterlockContract):
    @pytest.fixture(autouse=True)
    def endpoint(self, foreign, instrument):
        self.address, self.instrument = foreign, instrument

    def open(self):
        options = {"address": self.address, "ask": "DIG:DATA?", "closed": "1", "reason": "enclosure door"}
        return open_device("scpi.interlock", "door", options, OpenContext())

    def trip(self):
        self.instrument["contact"] = "0"
        return self.open()


class TestLimitOfServedMeter(InterlockContract):
    @pytest.fixture(autouse=True)
    def endpoint(self, served):
        self.address = address_of(served)

    def open(self, high=1e-2):
        monitor = {"address": self.address, "preset": "pm100", "wavelength_nm": 633}
        options = {"monitor": "scpi.monitor", "monitor_options": monitor, "unit": "W", "low": 0, "high": high}
        return open_device("limit.interlock", "power_limit", options, OpenContext())

    def trip(self):
        return self.open(high=1e-3)


def test_preset_sets_wavelength_and_unit_and_reads_watts(foreign, instrument):
    with power_meter(foreign, averages=10) as meter:
        reading = meter.read(PATIENCE_S)
        settings = meter.snapshot()["settings"]
    assert (reading.value, reading.unit) == (1.25e-3, "W")
    assert (instrument["wavelength"], instrument["unit"], instrument["averages"]) == (633.0, "W", 10)
    assert settings == {"SENS:CORR:WAV": 633.0, "SENS:POW:UNIT": "W", "SENS:AVER:COUN": 10.0}


def test_served_meter_follows_the_wavelength_as_a_photodiode_does(served):
    with power_meter(address_of(served)) as meter:
        assert meter.read(PATIENCE_S).value == pytest.approx(2e-3, rel=1e-9)
    with power_meter(address_of(served), wavelength_nm=800) as meter:
        assert meter.read(PATIENCE_S).value == pytest.approx(2e-3 * 633 / 800, rel=1e-9)


def test_meter_whose_wavelength_is_turned_during_a_run_is_refused(foreign, instrument):
    with power_meter(foreign) as meter:
        meter.read(PATIENCE_S)
        instrument["wavelength"] = 800.0
        with pytest.raises(DeviceProtocolError, match="has changed since") as refusal:
            meter.read(PATIENCE_S)
    assert (refusal.value.expected, refusal.value.seen) == ("633.0", "800.0")


def test_third_party_package_reads_our_served_meter(served):
    require_module("ThorlabsPM100", INSTALL)
    pyvisa = pytest.importorskip("pyvisa")
    from ThorlabsPM100 import ThorlabsPM100

    manager = pyvisa.ResourceManager("@py")
    with manager.open_resource(
        address_of(served), read_termination="\n", write_termination="\n", timeout=5000
    ) as session:
        meter = ThorlabsPM100(inst=session)
        meter.sense.correction.wavelength = 633
        meter.sense.average.count = 30
        meter.sense.power.dc.unit = "W"
        assert meter.sense.correction.wavelength == 633
        assert meter.sense.correction.minimum_wavelength == 400
        assert meter.sense.average.count == 30
        assert meter.sense.power.dc.unit == "W"
        assert meter.getconfigure == "POW"
        assert meter.read == pytest.approx(2e-3, rel=1e-9)
        meter.sense.power.dc.unit = "DBM"
        assert meter.read == pytest.approx(10 * math.log10(2.0), abs=1e-8)
        assert session.query("SYST:ERR?") == '+0,"No error"'


def test_generic_property_is_scaled_and_ranged(foreign, instrument):
    options = {"address": foreign, "ask": "READ?", "unit": "mW", "scale": 1e3, "low": 0, "high": 2}
    with open_device("scpi.monitor", "power", options, OpenContext()) as meter:
        assert meter.read(PATIENCE_S).value == pytest.approx(1.25)
        assert meter.unit == "mW"
        instrument["power"] = "3E-3"
        with pytest.raises(DeviceProtocolError) as refusal:
            meter.read(PATIENCE_S)
        assert refusal.value.expected == "0 … 2 mW"


def test_limits_do_not_keep_a_meter_from_being_opened_in_the_dark(foreign, instrument):
    instrument["power"] = "1E-9"
    with power_meter(foreign, low=1e-4) as meter:
        with pytest.raises(DeviceProtocolError):
            meter.read(PATIENCE_S)
        instrument["power"] = "1E-3"
        assert meter.read(PATIENCE_S).value == 1e-3


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("9.91E37", "the instrument has none"),
        ("9.9E37", "overloaded"),
        ("-9.9E+37", "overloaded"),
        ("1.0 mW", "matches"),
        ("NAN", "matches"),
        ("1E999", "overloaded"),
        ("1_0", "matches"),
    ],
)
def test_answer_that_is_no_value_is_refused(foreign, instrument, answer, why):
    options = {"address": foreign, "ask": "READ?", "unit": "W"}
    with open_device("scpi.monitor", "power", options, OpenContext()) as meter:
        instrument["power"] = answer
        with pytest.raises(DeviceProtocolError) as refusal:
            meter.read(PATIENCE_S)
        assert why in refusal.value.expected
        assert answer in refusal.value.seen
        instrument["power"] = "1E-3"
        assert meter.read(PATIENCE_S).value == 1e-3


def test_command_that_is_refused_shows_the_error_queue(served):
    with pytest.raises(DeviceProtocolError, match="refuses the command") as refusal:
        power_meter(address_of(served), wavelength_nm=300)
    assert refusal.value.seen == '-222,"Data out of range"'


def test_mistakes_of_an_earlier_user_are_not_ours(served):
    for _ in range(100):
        assert served.meter.answer("FOO") is None
    with power_meter(address_of(served)) as meter:
        assert meter.read(PATIENCE_S).value == pytest.approx(2e-3)


def test_question_that_it_does_not_know_shows_the_error_queue(served):
    options = {"address": address_of(served), "ask": "MEAS:VOLTS?", "unit": "V", "timeout_s": DEADLINE_S}
    with pytest.raises(DeviceTimeout) as timeout:
        open_device("scpi.monitor", "volts", options, OpenContext())
    assert timeout.value.seen == '-113,"Undefined header"'


def test_another_instrument_at_the_address_is_told_nothing(foreign, instrument):
    with pytest.raises(DeviceProtocolError, match="another instrument answers"):
        power_meter(foreign, identity_expect="SN0043")
    assert instrument["wavelength"] == 1310.0
    options = {"address": foreign, "identity_expect": "SN0043"}
    with pytest.raises(DeviceProtocolError, match="another instrument answers"):
        open_device("scpi.source", "source", options, OpenContext())
    assert instrument["output"] == "1"


def test_source_that_ignores_commands_is_not_believed(foreign, instrument):
    options = {"address": foreign, "state": "DIG:DATA?", "timeout_s": DEADLINE_S}
    with pytest.raises(DeviceProtocolError, match="the light is not off"):
        open_device("scpi.source", "source", options, OpenContext())


def test_source_that_has_lost_its_settings_is_not_switched_on(foreign, instrument):
    options = {"address": foreign, "settings": {"SENS:AVER:COUN": 5}}
    with open_device("scpi.source", "source", options, OpenContext()) as source:
        source.on()
        source.off()
        instrument["averages"] = 1
        with pytest.raises(DeviceProtocolError, match="has changed since"):
            source.on()
        assert not source.is_on


def test_two_devices_share_one_connection_and_agree_in_its_settings(foreign):
    context = OpenContext()
    with (
        power_meter(foreign, context) as meter,
        open_device("scpi.source", "source", {"address": foreign}, context) as source,
    ):
        assert len(context.resources.held()) == 1
        source.on()
        assert meter.read(PATIENCE_S).value == 1.25e-3
        with pytest.raises(CapabilityError, match="open already with other settings"):
            power_meter(foreign, context, read_end="\r\n")
    assert context.resources.held() == ()


def test_two_threads_on_one_connection_get_their_own_answers(foreign, instrument):
    instrument |= {"power": "1", "contact": "2"}
    context = OpenContext()
    wrong = []

    def read(meter, value):
        wrong.extend(one for one in (meter.read(10.0).value for _ in range(50)) if one != value)

    with ExitStack() as stack:
        threads = []
        for ask, value in (("READ?", 1.0), ("DIG:DATA?", 2.0)):
            options = {"address": foreign, "ask": ask, "unit": "1"}
            meter = stack.enter_context(open_device("scpi.monitor", ask, options, context))
            threads.append(threading.Thread(target=read, args=(meter, value)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert wrong == []


def test_meter_that_hangs_up_is_lost_and_opens_again(served):
    meter = power_meter(address_of(served))
    served.hang_up()
    time.sleep(0.1)
    with pytest.raises(DeviceLost):
        meter.read(PATIENCE_S)
    with pytest.raises(DeviceLost):
        meter.identify()
    meter.close()
    with power_meter(address_of(served)) as again:
        assert again.read().value == pytest.approx(2e-3)


def test_device_on_a_lost_connection_is_not_revived_by_its_neighbour(served):
    context = OpenContext()
    first, second = (power_meter(address_of(served), context, name) for name in ("first", "second"))
    served.hang_up()
    time.sleep(0.1)
    with pytest.raises(DeviceLost):
        first.read()
    first.close()
    with power_meter(address_of(served), context, "first") as first:
        assert first.read().unit == "W"
        with pytest.raises(DeviceLost, match="may have forgotten"):
            second.read()
    second.close()
    assert context.resources.held() == ()


def test_server_that_is_not_there_is_not_connected():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"TCPIP0::127.0.0.1::{free.getsockname()[1]}::SOCKET"
        begin_s = time.monotonic()
        with pytest.raises(NotConnected):
            power_meter(address, timeout_s=DEADLINE_S)
        assert time.monotonic() - begin_s < DEADLINE_S + SLACK_S


@pytest.mark.parametrize("timeout_s", [0, -1, math.inf, math.nan])
def test_time_out_that_is_none_is_refused(served, timeout_s):
    with power_meter(address_of(served)) as meter, pytest.raises(CapabilityError):
        meter.wire.ask("power", "*IDN?", timeout_s)


def test_words_that_nobody_asked_for_are_not_taken_for_an_answer():
    connections = []

    def behave(line, connection):
        connections.append(connection)
        connection.sendall(b"1.0\n")

    with Misbehaving(behave) as server:
        options = {"address": server.address, "ask": "READ?", "unit": "W"}
        with open_device("scpi.monitor", "meter", options, OpenContext()) as meter:
            connections[-1].sendall(b"666\n777\n")
            time.sleep(0.1)
            assert [meter.read(PATIENCE_S).value for _ in range(3)] == [1.0] * 3


def silence(line, connection):
    """Says nothing."""


def half_a_line(line, connection):
    connection.sendall(b"1.2")


def closes_mid_answer(line, connection):
    connection.sendall(b"1.2")
    connection.shutdown(socket.SHUT_RDWR)


def babbles(line, connection):
    while True:
        connection.sendall(b"0123456789" * 100)


def drips(line, connection):
    while True:
        connection.sendall(b"1")
        time.sleep(0.01)


def garbage(line, connection):
    connection.sendall(bytes(range(128, 200)) + b"\n")


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (silence, DeviceTimeout),
        (half_a_line, DeviceTimeout),
        (closes_mid_answer, DeviceLost),
        (babbles, DeviceProtocolError),
        (drips, DeviceTimeout),
        (garbage, DeviceProtocolError),
    ],
)
def test_misbehaving_server_ends_in_a_coded_error_in_time(behaviour, error):
    good = True

    def behave(line, connection):
        if good:
            connection.sendall(b"1.0\n")
        else:
            behaviour(line, connection)

    with Misbehaving(behave) as server:
        options = {"address": server.address, "ask": "READ?", "unit": "W", "timeout_s": PATIENCE_S}
        with open_device("scpi.monitor", "meter", options, OpenContext()) as meter:
            good = False
            begin_s = time.monotonic()
            with pytest.raises(error):
                meter.read(timeout_s=DEADLINE_S)
            assert time.monotonic() - begin_s < DEADLINE_S + SLACK_S
            good = True
            if error is not DeviceLost:
                assert meter.read(PATIENCE_S).value == 1.0
        with open_device("scpi.monitor", "meter", options, OpenContext()) as meter:
            assert meter.read(PATIENCE_S).value == 1.0


def test_late_answer_is_not_taken_for_the_next_one():
    late, given_up, told = False, threading.Event(), threading.Event()

    def behave(line, connection):
        if late:
            given_up.wait(LIMIT_S)
            with contextlib.suppress(OSError):  # nobody may be there any more to be told
                connection.sendall(b"666\n")
            told.set()
        else:
            connection.sendall(b"1.0\n")

    with Misbehaving(behave) as server:
        options = {"address": server.address, "ask": "READ?", "unit": "W"}
        with open_device("scpi.monitor", "meter", options, OpenContext()) as meter:
            late = True
            with pytest.raises(DeviceTimeout):
                meter.read(timeout_s=0.3)
            late = False
            given_up.set()
            assert [meter.read(PATIENCE_S).value for _ in range(5)] == [1.0] * 5
            assert told.wait(LIMIT_S)
            assert meter.read(PATIENCE_S).value == 1.0


def test_greeting_is_not_taken_for_an_answer():
    def behave(line, connection):
        connection.sendall(b"1.0\n")

    class Greeting(Misbehaving):
        def process_request(self, request, client_address):
            request.sendall(b"Welcome to the meter\n")
            super().process_request(request, client_address)

    with Greeting(behave) as server:
        options = {"address": server.address, "ask": "READ?", "unit": "W"}
        with open_device("scpi.monitor", "meter", options, OpenContext()) as meter:
            assert meter.read(PATIENCE_S).value == 1.0


def test_limit_of_a_meter_that_is_gone_is_a_trip(served):
    monitor = {"address": address_of(served), "preset": "pm100", "wavelength_nm": 633}
    options = {"monitor": "scpi.monitor", "monitor_options": monitor, "unit": "W", "high": 1}
    with open_device("limit.interlock", "limit", options, OpenContext()) as interlock:
        assert interlock.check() == Ok()
        served.hang_up()
        time.sleep(0.1)
        answer = interlock.check()
        assert isinstance(answer, Trip)
        assert "does not read" in answer.reason
    with pytest.raises(RoleError):
        open_device("limit.interlock", "limit", {**options, "unit": "mW"}, OpenContext())


@pytest.mark.parametrize(
    "options",
    [
        {"address": "192.168.1.20", "ask": "READ?", "unit": "W"},
        {"address": "TCPIP0::a::1::SOCKET"},
        {"address": "TCPIP0::a::1::SOCKET", "ask": "READ", "unit": "W"},
        {"address": "TCPIP0::a::1::SOCKET", "ask": "READ?", "unit": "W", "wavelength_nm": 633},
        {"address": "TCPIP0::a::1::SOCKET", "ask": "READ?", "unit": "W", "expect": "(.*)"},
        {"address": "TCPIP0::a::1::SOCKET", "ask": "READ?", "unit": "W", "expect": "(?P<value>"},
        {"address": "TCPIP0::a::1::SOCKET", "ask": "READ?", "unit": "W", "scale": 0},
        {"address": "TCPIP0::a::1::SOCKET", "ask": "READ?", "unit": "W", "low": 2, "high": 1},
        {"address": "TCPIP0::a::1::SOCKET", "ask": "READ?", "unit": "W", "settings": {"A": True}},
        {"address": "TCPIP0::a::1::SOCKET", "preset": "pm100"},
        {"address": "TCPIP0::a::1::SOCKET", "preset": "pm100", "wavelength_nm": 633, "ask": "READ?"},
        {"address": "TCPIP0::a::1::SOCKET", "preset": "pm100", "wavelength_nm": 0.633},
        {"address": "TCPIP0::a::1::SOCKET", "ask": "READ?", "unit": "W", "read_end": ""},
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_opens(options):
    with pytest.raises(OptionError):
        open_device("scpi.monitor", "meter", options, OpenContext())


def test_looking_for_instruments_ends_soon_and_raises_nothing():
    begin_s = time.monotonic()
    for found in find_backend("scpi.monitor").discover():
        assert found.role == "monitor"
    assert time.monotonic() - begin_s < 5 + SLACK_S
