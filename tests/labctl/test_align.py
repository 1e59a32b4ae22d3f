"""First light on mock benches that are set wrong, one way at a time: each is named, and what is right is left alone."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from everyday import everyday
from fitted import fit_step_once

from drivers.errors import DeviceLost
from labctl.__main__ import main
from labctl.align.look import look
from labctl.bench.bench import open_bench
from labctl.station import load_station
from labctl.station.edit import with_values

PANEL = "rows = 256, cols = 320"
STATION = """
[bench]
name = "align"
[layout]  # small
rows = 32
columns = 32
[acquisition]
exposure_s = 0.010  # by hand
[mock]
threads = 1
slm = {{{panel}, offset_x_px = 2.0, offset_y_px = -1.0{slm}}}
display = {{{panel}{display}}}
camera = {{rows = 300, cols = 360{camera}}}
source = {{power_mw = {power_mw}}}
optics = {{beam_radius_px = 500.0, beam_offset_x_px = 5.0, beam_offset_y_px = 3.0{optics}}}
{more}
"""


def aligned(
    folder: Path, capsys: pytest.CaptureFixture[str], *options: str, power_mw: float = 2.0, **parts: str
) -> tuple[int, dict[str, Any]]:
    """Exit code and document of ``labctl align`` on a small bench."""
    path = folder / "bench.toml"
    if not path.exists():
        more = {part: f", {parts[part]}" if part in parts else "" for part in ("slm", "display", "optics", "camera")}
        text = STATION.format(panel=parts.get("panel", PANEL), power_mw=power_mw, more=parts.get("more", ""), **more)
        path.write_text(text, encoding="utf-8")
    code = main(["align", "--json", "--bench", str(path), *options])
    return code, json.loads(capsys.readouterr().out)


def named(document: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """State of each finding that is no PASS, by what it is about and its name."""
    return {(f["about"], f["name"]): f["state"] for f in document["findings"] if f["state"] != "PASS"}


@pytest.fixture(autouse=True)
def unseen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is drawn in tests marked ``figures`` only."""
    if request.node.get_closest_marker("figures") is None:
        monkeypatch.setattr("labctl.cli.align._draw", lambda path, view, station: str(path))


@pytest.fixture(autouse=True)
def steps_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most look at a bench whose panels settle alike, to ask for something else."""
    monkeypatch.setattr("labctl.align.look.fit_step", fit_step_once)


@pytest.mark.figures
def test_bench_in_order_passes_and_the_picture_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = aligned(tmp_path, capsys)
    assert code == 0
    assert named(document) == {}
    assert (tmp_path / "bench-align.png").read_bytes()[:4] == b"\x89PNG"


WRONG = [
    ({"power_mw": 0.0}, {("light", "no-light"): "FAIL"}, 10),
    ({"power_mw": 0.002}, {("light", "dim"): "FAIL"}, 10),
    ({"power_mw": 0.1}, {("light", "dim"): "WARN"}, 0),
    ({"power_mw": 50.0}, {("light", "saturated"): "WARN"}, 0),
    ({"optics": "ambient_e_per_s = 30000.0"}, {("light", "stray-light"): "WARN"}, 0),
    (
        {"slm": "rotation_deg = 180.0", "display": "rotation_deg = 180.0"},
        {("slm", "upside-down"): "WARN", ("display", "upside-down"): "WARN"},
        0,
    ),
    (
        {"slm": "rotation_deg = 180.0"},
        {("slm", "upside-down"): "WARN", ("display", "opposed"): "WARN"},
        0,
    ),
    ({"slm": "mirrored = true"}, {("slm", "mirrored"): "WARN", ("display", "opposed"): "WARN"}, 0),
    (
        {"slm": "rotation_deg = 90.0", "display": "magnification = 0.9"},
        {("slm", "turned"): "WARN", ("slm", "cut-off"): "WARN", ("display", "crossed"): "FAIL"},
        10,
    ),
    (
        {"display": "rotation_deg = 8.0, magnification = 0.9"},
        {("display", "turned"): "WARN", ("display", "askew"): "FAIL"},
        10,
    ),
    ({"slm": "inverted = true"}, {("slm", "inverted"): "FAIL"}, 10),
    ({"display": "inverted = true"}, {("display", "inverted"): "FAIL"}, 10),
    ({"slm": "floor = 0.4"}, {("slm", "contrast"): "WARN"}, 0),
    ({"optics": "camera_psf_px = 3.0"}, {("slm", "out-of-focus"): "FAIL"}, 10),
    ({"optics": "display_psf_px = 4.0"}, {("display", "out-of-focus"): "FAIL"}, 10),
    ({"slm": "elsewhere = true"}, {("slm", "wrong-monitor"): "FAIL"}, 10),
    ({"display": "elsewhere = true"}, {("display", "wrong-monitor"): "FAIL"}, 10),
    ({"more": "drift = {power_walk_per_sqrt_s = 0.05}"}, {}, 0),
    ({"camera": "hot_fraction = 0.01, hot_e_per_s = 1e6"}, {}, 0),
    ({"slm": "tau_s = 0.2"}, {}, 0),
    (
        {"optics": "row_sum_px = 10.0", "power_mw": 0.2},
        {("slm", "not-located"): "FAIL", ("display", "not-located"): "FAIL"},
        10,
    ),
    ({"slm": "magnification = 1.3"}, {("slm", "cut-off"): "FAIL"}, 10),
    ({"slm": "keystone_x = 0.15"}, {("slm", "keystone"): "FAIL", ("slm", "cut-off"): "WARN"}, 10),
    (
        {"optics": "distortion = 0.1"},
        {("slm", "bent"): "WARN", ("display", "bent"): "WARN"},
        0,
    ),
    ({"display": "flicker_depth = 0.9, flicker_hz = 7.0"}, {("light", "unsteady"): "FAIL"}, 10),
    ({"power_mw": 1000.0, "camera": "exposure_min_s = 0.01"}, {("light", "saturated"): "FAIL"}, 10),
]


@pytest.mark.parametrize(
    ("wrong", "expected", "code"),
    everyday(WRONG, 0, 3, 7, 9, 10, 13, 15, 19, 23),
    ids=lambda value: (
        str(next(iter(value.values()), "right")) if isinstance(value, dict) and "power_mw" not in value else None
    ),
)
def test_each_way_to_be_wrong_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wrong: dict[str, Any],
    expected: dict[tuple[str, str], str],
    code: int,
) -> None:
    seen, document = aligned(tmp_path, capsys, **wrong)
    settling = {key: state for key, state in named(document).items() if key[1] == "settling"}
    if ("light", "unsteady") not in expected:
        assert not settling
    assert {key: state for key, state in named(document).items() if key not in settling} == expected
    assert seen == code
    assert all(f["fix"] for f in document["findings"] if f["state"] != "PASS")
    assert not (document["written"] and code)


def test_narrow_beam_is_named_and_no_calibration_is_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = aligned(tmp_path, capsys, "--set=mock.optics.beam_radius_px=40.0")
    assert code == 10
    assert named(document)["slm", "half-lit"] == "FAIL"


def test_panel_too_small_for_stripes_is_not_called_out_of_focus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = aligned(tmp_path, capsys, panel="rows = 64, cols = 48", camera="black_level_dn = 90.0")
    assert code == 10
    words = {f["about"]: f["words"] for f in document["findings"] if f["name"] == "not-located"}
    assert "only 64 × 48 pixels" in words["slm"]


def test_slow_panel_gets_the_frames_that_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, document = aligned(tmp_path, capsys, slm="tau_s = 0.2")
    proposed = {one["key"]: one["value"] for one in document["proposed"]}
    assert 70 < proposed["acquisition.slm_settle_frames"] < 90


def test_layout_that_cannot_be_mended_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = aligned(tmp_path, capsys, "--set=layout.pitch_columns_px=1000")
    assert code == 10
    assert named(document) == {("slm", "layout"): "FAIL"}


def test_what_is_read_beside_the_layout_lies_on_the_sensor_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tight = ("--set=layout.pitch_rows_px=8", "--set=layout.active_rows_px=5", "--set=mock.camera.rows=256")
    _, document = aligned(tmp_path, capsys, *tight)
    assert {one["key"]: one["value"] for one in document["proposed"]}["layout.rows"] < 31


def test_interlock_that_opens_meanwhile_puts_the_light_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lid = 'faults = ["interlock@300"]\n[devices.lid]\nrole = "interlock"\nbackend = "mock.interlock"'
    code, document = aligned(tmp_path, capsys, more=lid)
    assert code == 21
    assert document["first_error"]["device"] == "lid"


def test_what_was_found_under_set_is_not_written_for_another_station(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = aligned(tmp_path, capsys, "--set=layout.rows=16")
    assert code == 0
    assert document["proposed"]
    assert not document["written"]


def test_file_changed_meanwhile_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from labctl.align import look

    path, before = tmp_path / "bench.toml", look.look

    def disturbed(*arguments: Any) -> look.View:
        path.write_text(path.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
        return before(*arguments)

    monkeypatch.setattr(look, "look", disturbed)
    _, document = aligned(tmp_path, capsys)
    assert document["proposed"]
    assert not document["written"]
    assert path.read_text(encoding="utf-8").endswith("# mine\n")


def test_line_ends_byte_order_mark_and_links_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aligned(tmp_path, capsys, "--no-write")
    real, path = tmp_path / "real.toml", tmp_path / "bench.toml"
    real.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    path.unlink()
    path.symlink_to(real)
    _, document = aligned(tmp_path, capsys)
    assert document["written"]
    assert path.is_symlink()
    assert real.read_bytes().startswith(b"\xef\xbb\xbf\r\n[bench]")
    assert real.read_bytes().count(b"\n") == real.read_bytes().count(b"\r\n")
    assert b"labctl align: " in real.read_bytes()


def test_new_key_goes_before_the_comment_of_the_next_table() -> None:
    text = "[layout]\ncolumns = 3\n\n# about the mock\n[mock]\nx = 1\n"
    changed = with_values(text, {"layout.rows": (3, "why")})
    assert changed == "[layout]\ncolumns = 3\nrows = 3 # labctl align: why\n\n# about the mock\n[mock]\nx = 1\n"


def test_panel_that_is_cut_off_gets_a_layout_that_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = aligned(tmp_path, capsys, slm="magnification = 1.2")
    assert code == 0
    assert ("slm", "cut-off") in named(document)
    x, y, width, height = document["layout_window_px"]
    assert x >= 0
    assert y >= 0
    assert x + width <= 360
    assert y + height <= 300


def test_exposure_that_is_proposed_is_written_with_its_reason_and_ends_the_complaint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, first = aligned(tmp_path, capsys, power_mw=50.0)
    proposed = {one["key"]: one["value"] for one in first["proposed"]}
    assert first["written"]
    text = (tmp_path / "bench.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["acquisition"]["exposure_s"] == proposed["acquisition.exposure_s"] < 0.01
    assert "# by hand  ·  labctl align: " in text
    assert "[layout]  # small" in text
    _, second = aligned(tmp_path, capsys)
    assert named(second) == {}
    assert "acquisition.exposure_s" not in {one["key"] for one in second["proposed"]}


def test_blur_that_a_person_accepts_gets_larger_macropixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = aligned(tmp_path, capsys, "--accept-blur", optics="camera_psf_px = 3.0")
    assert code == 0
    assert document["written"]
    pitch = tomllib.loads((tmp_path / "bench.toml").read_text(encoding="utf-8"))["layout"]["pitch_rows_px"]
    assert pitch > 12
    code, document = aligned(tmp_path, capsys)
    assert code == 0
    assert ("slm", "out-of-focus") not in named(document)


def test_shipped_station_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [f"--set=mock.{key}" for key in ("slm.rows=256", "slm.cols=320", "display.rows=256", "display.cols=320")]
    small += ["--set=mock.camera.rows=300", "--set=mock.camera.cols=360", "--set=mock.source.power_mw=40.0"]
    main(["align", "--set=layout.rows=32", "--set=layout.columns=32", *small])
    assert "labctl station init" in capsys.readouterr().out


def test_file_that_cannot_be_changed_safely_is_left_alone() -> None:
    from labctl.errors import ConfigError

    with pytest.raises(ConfigError, match="cannot be changed"):
        with_values("acquisition = 3\n", {"acquisition.exposure_s": (0.01, "why")})


def test_other_lines_of_the_file_stay_as_they_are() -> None:
    text = "# mine\n[acquisition]\nexposure_s = 0.01 # by hand\n\n[layout]\nrows = 3\n"
    once = with_values(text, {"acquisition.exposure_s": (0.02, "first"), "acquisition.dark_frames": (8, "more")})
    twice = with_values(once, {"acquisition.exposure_s": (0.03, "second")})
    assert "exposure_s = 0.03 # by hand  ·  labctl align: second\n" in twice
    assert "first" not in twice
    assert twice.startswith("# mine\n[acquisition]\n")
    assert twice.endswith("[layout]\nrows = 3\n")


def test_what_failed_first_is_told_where_the_light_fails_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bench.toml"
    parts = dict.fromkeys(("slm", "display", "optics", "camera", "more"), "")
    path.write_text(STATION.format(panel=PANEL, power_mw=2.0, **parts), encoding="utf-8")
    station = load_station(path).station
    with open_bench(station) as bench:
        gone = {name: DeviceLost(f"{name} is gone", device=name) for name in ("camera", "source")}
        monkeypatch.setattr(bench.camera, "fetch", Mock(side_effect=gone["camera"]))
        monkeypatch.setattr(bench.source, "off", Mock(side_effect=gone["source"]))
        with pytest.raises(DeviceLost, match="camera is gone"):
            look(bench, 0.01, 1.0, Mock())
        monkeypatch.undo()
