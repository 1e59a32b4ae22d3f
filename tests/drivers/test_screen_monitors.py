"""What `xrandr` says, and what of it would change the pixels on their way to a panel."""

from __future__ import annotations

import pytest
from processes import LIMIT_S

from drivers.errors import DeviceTimeout, NotConnected
from drivers.libraries.monitors import Edid, monitor, monitors, parse_xrandr, parse_xset, power_saving, read_edid
from drivers.libraries.xserver import make_edid
from drivers.modulators.screen import SCREEN

EDID = make_edid("HOL", "HE PLUTO-2.1", 60, (1920, 1080))

# As xrandr 1.5.1 prints it on a laptop with an SLM on HDMI-1.
LAPTOP = """\
Screen 0: minimum 320 x 200, current 3840 x 1080, maximum 16384 x 16384
eDP-1 connected primary 1920x1080+0+0 (0x47) normal (normal left inverted right x axis y axis) 344mm x 194mm
\tIdentifier: 0x42
\tTimestamp:  31459
\tSubpixel:   unknown
\tGamma:      1.0:1.0:1.0
\tBrightness: 1.0
\tClones:    
\tCRTC:       0
\tCRTCs:      0 1 2
\tTransform:  1.000000 0.000000 0.000000
\t            0.000000 1.000000 0.000000
\t            0.000000 0.000000 1.000000
\t           filter: 
\tscaling mode: Full aspect 
\t\tsupported: Full, Center, Full aspect
  1920x1080 (0x47) 138.700MHz +HSync -VSync *current +preferred
        h: width  1920 start 1968 end 2000 total 2080 skew    0 clock  66.68KHz
        v: height 1080 start 1083 end 1088 total 1111           clock  60.02Hz
HDMI-1 connected {area} (0x4a) {turn}(normal left inverted right x axis y axis) 520mm x 290mm{panning}
\tIdentifier: 0x43
\tTimestamp:  31459
\tSubpixel:   unknown
\tGamma:      1.0:1.0:1.0
\tBrightness: 1.0
\tClones:    
\tCRTC:       1
\tCRTCs:      0 1 2
\tTransform:  {transform} 0.000000 0.000000
\t            0.000000 {transform} 0.000000
\t            0.000000 0.000000 1.000000
\t           filter: bilinear
\tEDID: 
{edid}
\tCTM: {matrix} 
\t\t0 1 0 0 0 0 0 0 
\t\t0 1 
\tBroadcast RGB: {range} 
\t\tsupported: Automatic, Full, Limited 16:235
\tunderscan: off 
\t\tsupported: off, on, auto
  1920x1080 (0x4a) 148.352MHz +HSync +VSync {flags} +preferred
        h: width  1920 start 2008 end 2052 total 2200 skew    0 clock  67.43KHz
        v: height 1080 start 1084 end 1089 total 1125           clock  59.94Hz
  1280x720 (0x51) 74.250MHz +HSync +VSync
        h: width  1280 start 1390 end 1430 total 1650 skew    0 clock  45.00KHz
        v: height  720 start  725 end  730 total  750           clock  60.00Hz
DP-1 disconnected (normal left inverted right x axis y axis)
\tIdentifier: 0x44
"""
USUAL = {
    "area": "1920x1080+1920+0",
    "turn": "normal ",
    "panning": "",
    "transform": "1.000000",
    "edid": "\n".join("\t\t" + EDID.hex()[at : at + 32] for at in range(0, 256, 32)),
    "matrix": "0 1 0 0 0 0 0 0",
    "range": "Full",
    "flags": "*current",
}


def listed(**changes):
    """The laptop's own monitor and the SLM."""
    return sorted(parse_xrandr(LAPTOP.format(**USUAL | changes)), key=lambda one: not one.primary)


def test_monitors_are_read_with_place_refresh_and_panel():
    first, second = listed()
    assert (first.name, first.primary, first.problems) == ("eDP-1", True, ())
    assert second.rectangle == {"left": 1920, "top": 0, "width": 1920, "height": 1080}
    assert second.refresh_hz == pytest.approx(59.94, abs=0.001)
    assert second.edid == Edid("HOL", "HE PLUTO-2.1", "60", (1920, 1080))
    assert (second.primary, second.problems) == (False, ())


@pytest.mark.parametrize(
    ("changes", "words", "hint"),
    [
        ({"area": "960x540+1920+0", "transform": "0.500000"}, "960x540 of it on 1920x1080", "--scale 1x1"),
        ({"area": "3840x2160+1920+0", "transform": "2.000000"}, "3840x2160 of it on 1920x1080", "--scale 1x1"),
        ({"area": "1080x1920+1920+0", "turn": "left "}, "turned or reflected: left", "--rotate normal"),
        ({"turn": "normal X axis "}, "turned or reflected: normal X axis", "--reflect normal"),
        ({"panning": " panning 3000x1080+1920+0"}, "pans", "--panning 0x0"),
        ({"area": "1920x1080+0+0"}, "a part of what eDP-1 shows", "--right-of eDP-1"),
        ({"area": "1920x1080+1919+0"}, "a part of what eDP-1 shows", "--right-of eDP-1"),
        ({"range": "Limited 16:235"}, "squeezed into 16 … 235", '"Broadcast RGB" "Full"'),
        ({"range": "Automatic"}, "squeezed into 16 … 235", '"Broadcast RGB" "Full"'),
        ({"matrix": "858993459 0 0 0 0 0 0 0"}, "colour matrix", "night light"),
        ({"flags": "Interlace *current"}, "Interlace", "--auto"),
    ],
)
def test_what_changes_pixels_is_named_with_what_to_type(changes, words, hint):
    (problem, *more) = listed(**changes)[1].problems
    assert words in problem.what
    assert hint in problem.hint
    assert not more


def test_mode_that_is_not_the_panels_own_is_named():
    edid = make_edid("SAN", "SLM-200", 7, (1920, 1200)).hex()
    (problem,) = listed(edid="\t\t" + edid)[1].problems
    assert problem.what.startswith("the mode 1920x1080 is not the panel's own 1920x1200")


def test_output_that_is_on_without_a_panel_is_named():
    (problem,) = parse_xrandr(LAPTOP.format(**USUAL).replace("HDMI-1 connected", "HDMI-1 disconnected"))[1].problems
    assert problem.what == "no panel answers at this output"


def test_panel_that_tells_nothing_is_a_panel():
    (_, second) = listed(edid="")
    assert second.edid == Edid()
    assert not second.problems


@pytest.mark.parametrize("data", [b"", bytes(128), EDID[:64]])
def test_what_is_no_edid_tells_nothing(data):
    assert read_edid(data) == Edid()


def test_serial_number_in_words_goes_before_the_number():
    worded = bytearray(EDID)
    worded[90:108] = b"\0\0\0\xff\0" + b"6010-0231\n".ljust(13)
    assert read_edid(bytes(worded)).serial == "6010-0231"


@pytest.mark.parametrize(
    ("after", "enabled", "found"),
    [("600", "Enabled", True), ("0", "Enabled", False), ("600", "Disabled", False)],
)
def test_power_saving_is_named_with_its_delay(after, enabled, found):
    problem = parse_xset(
        f"DPMS (Energy Star):\n  Standby: {after}    Suspend: {after}    Off: {after}\n  DPMS is {enabled}\n"
    )
    assert (problem is not None) == found
    if problem is not None:
        assert "after 600 s" in problem.what
        assert problem.hint == "xset -dpms"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"XDG_SESSION_TYPE": "wayland", "DISPLAY": ":0"}, "Wayland"),
        ({"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0", "XDG_SESSION_TYPE": ""}, "Wayland"),
        ({"DISPLAY": "", "WAYLAND_DISPLAY": "", "XDG_SESSION_TYPE": "tty"}, "DISPLAY is not set"),
    ],
)
def test_session_without_monitors_is_refused_with_what_to_do(monkeypatch, environment, words):
    monkeypatch.setattr("sys.platform", "linux")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotConnected, match=words) as error:
        monitors()
    assert error.value.hint


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_are_refused_with_what_to_do(monkeypatch, platform):
    monkeypatch.setattr("sys.platform", platform)
    with pytest.raises(NotConnected, match=platform) as error:
        monitor("HDMI-1")
    assert "slmsuite.slm" in error.value.hint


@pytest.mark.parametrize(
    ("script", "timeout_s", "error", "words"),
    [
        ("exec sleep 300", 0.5, DeviceTimeout, "did not answer"),
        ("echo Can\\'t open display :77 >&2; exit 1", LIMIT_S, NotConnected, "open display :77"),
    ],
)
def test_server_that_does_not_answer_is_an_error_in_time(monkeypatch, tmp_path, script, timeout_s, error, words):
    _answers(monkeypatch, tmp_path, "xrandr", script)
    with pytest.raises(error, match=words):
        monitors(timeout_s)


def test_power_saving_of_a_server_that_does_not_answer_is_not_taken_for_none(monkeypatch, tmp_path):
    _answers(monkeypatch, tmp_path, "xset", "exec sleep 300")
    with pytest.raises(DeviceTimeout, match="did not answer"):
        power_saving(timeout_s=0.5)


def test_search_says_that_the_server_does_not_answer_rather_than_find_nothing(monkeypatch, tmp_path):
    _answers(monkeypatch, tmp_path, "xrandr", "exec sleep 300")
    monkeypatch.setattr("drivers.libraries.monitors.monitors.__defaults__", (0.5,))
    with pytest.raises(DeviceTimeout, match="did not answer"):
        SCREEN.discover()


def _answers(monkeypatch, tmp_path, name, script):
    """A program of this name, first on the path."""
    program = tmp_path / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setenv("XDG_SESSION_TYPE", "x11")


def test_xrandr_that_is_not_installed_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setenv("XDG_SESSION_TYPE", "x11")
    with pytest.raises(NotConnected, match="not installed") as error:
        monitors()
    assert "x11-xserver-utils" in error.value.hint
