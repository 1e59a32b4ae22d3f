"""The presets are complete station files, and the channels they name come out of their pixels."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from drivers.protocols import OpenContext, Roi
from drivers.registry import open_device
from labctl.station.model import Station
from mock_hardware import MockBench, parse
from mock_hardware.effective import effective
from mock_hardware.truth import expected_electrons

STATIONS = Path(__file__).parents[2] / "data" / "stations"
PRESETS = ["paper", "lcd-camera", "channels-48", "perfect"]


def station(name):
    return Station.model_validate(tomllib.loads((STATIONS / f"{name}.toml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_a_station_that_does_not_saturate(name):
    table = station(name)
    assert table.bench.name == name
    config = parse(table.mock)
    assert config.camera.quantum_efficiency == table.camera.quantum_efficiency
    brightest_e = config.source.power_mw * config.source.peak_electrons * table.acquisition.exposure_s / 0.010
    full_scale_e = (2**config.camera.bit_depth - 1 - config.camera.black_level_dn) / config.camera.gain_dn_per_e
    assert brightest_e < 0.9 * min(full_scale_e, config.camera.full_well_e)
    bench = MockBench(config)
    frame = bench.expose(Roi(config.camera.cols // 2, config.camera.rows // 2, 32, 32))
    assert frame.dn.shape == (32, 32)


@pytest.mark.parametrize("name", PRESETS)
def test_layout_of_the_preset_lies_on_its_sensor(name):
    table = station(name)
    bench, layout = MockBench(parse(table.mock)), table.layout
    on = [np.full((p.rows, p.cols), 255, np.uint8) for p in (bench.config.display, bench.config.slm)]
    electrons = expected_electrons(bench, *on, Roi(0, 0, bench.config.camera.cols, bench.config.camera.rows))
    rows, cols = layout.rows * layout.pitch_rows_px, layout.columns * layout.pitch_columns_px
    lit = electrons > 0.3 * electrons.max()
    assert lit.any(axis=1).sum() >= rows
    assert lit.any(axis=0).sum() >= cols


def test_forty_eight_channels_have_the_published_crosstalk():
    table = station("channels-48")
    channel = effective(MockBench(parse(table.mock)), table.layout.model_dump())
    assert all(0.052 <= part <= 0.073 for part in channel["crosstalk"])


def test_perfect_bench_has_equal_gains_and_nothing_else():
    table = station("perfect")
    channel = effective(MockBench(parse(table.mock)), {**table.layout.model_dump(), "rows": 8, "columns": 8})
    assert channel["gain_spread"] < 1e-5
    assert channel["gain_mean_dn"] == pytest.approx(4 * 4 * 20000 * 2, rel=1e-5)
    assert channel["crosstalk"] == pytest.approx([0, 0], abs=1e-6)
    assert channel["input_bleed"] == pytest.approx([0, 0], abs=1e-6)
    assert channel["intensity_noise"] == 0


def test_effective_channel_predicts_what_outputs_read():
    """A random binary matrix times a random binary input, against the frame that the optics make of them."""
    panel = {
        "rows": 200,
        "cols": 260,
        "rotation_deg": 0.0,
        "magnification": 1.0,
        "offset_x_px": 0.0,
        "offset_y_px": 0.0,
    }
    bench = MockBench(parse({"slm": panel, "display": panel, "camera": {"rows": 200, "cols": 260}}))
    layout = {"rows": 16, "columns": 16, "pitch_rows_px": 8, "pitch_columns_px": 10}
    layout |= {"active_rows_px": 6, "active_columns_px": 6}
    channel = effective(bench, layout)
    rng = np.random.default_rng(0)
    w, x = rng.integers(0, 2, (16, 16)), rng.integers(0, 2, 16)

    slm, display = np.zeros((200, 260), np.uint8), np.zeros((200, 260), np.uint8)
    active = np.zeros((8, 10), int)
    active[1:7, 2:8] = 255
    slm[36:164, 50:210] = np.kron(w, active)
    display[:, 50:210] = np.kron(255 * x, np.ones(10, int))
    dark = np.zeros_like(slm)
    seen = sum(
        sign * expected_electrons(bench, d, s, Roi(0, 0, 260, 200))
        for sign, d, s in ((1, display, slm), (-1, dark, slm), (-1, display, dark), (1, dark, dark))
    )
    sums = 4 * seen[36:164, 45:215].reshape(16, 8, 170).sum(axis=(1, 2))  # K = 4

    own = np.array(channel["gain_map_dn"]) * w @ x
    before, after = channel["crosstalk"]
    predicted = own + after * np.r_[0, own[:-1]] + before * np.r_[own[1:], 0]
    assert sums == pytest.approx(predicted, abs=0.003 * own.max())  # bleed between columns, edges of the two panels
    assert channel["shot_dn"] == pytest.approx(4, rel=0.01)
    still_e = 250 * 0.002 + (20 + 10) * 0.01  # stray light; the room and the dark current for 10 ms
    assert channel["read_dn"] == pytest.approx(np.sqrt(8 * 170 * (16 * (4 + still_e) + 1 / 12)), rel=0.02)


def test_mean_crosstalk_is_that_of_pairs_and_not_of_rows():
    """With two rows each gives to one neighbour only; half of it would be the mean over rows."""
    bench = MockBench(
        parse({"camera": {"rows": 120, "cols": 120}, **{p: {"rows": 80, "cols": 80} for p in ("slm", "display")}})
    )
    few, many = (effective(bench, {"rows": rows, "columns": 6}) for rows in (2, 10))
    assert np.allclose(few["crosstalk"], many["crosstalk"], rtol=0.05)
    assert min(few["crosstalk"]) > 0.001


@pytest.mark.parametrize(
    ("mounted", "turned"),
    [
        ({"mirrored": True}, np.fliplr),
        ({"upside_down": True}, np.flipud),
        ({"turned_deg": 90.0}, lambda picture: np.rot90(picture, -1)),  # clockwise
        ({"turned_deg": 180.0}, lambda picture: picture[::-1, ::-1]),
        ({"turned_deg": 270.0}, np.rot90),
        ({"turned_deg": 90.0, "mirrored": True}, lambda picture: np.fliplr(np.rot90(picture, -1))),
    ],
)
def test_camera_that_is_turned_or_mirrored_reads_the_picture_so(mounted, turned):
    """A square sensor; the same picture, pixel by pixel, but for rounding of the place and for the sensor's rim."""
    panels = {p: {"rows": 80, "cols": 80, "rotation_deg": 1.0} for p in ("slm", "display")}
    table = {"camera": {"rows": 120, "cols": 120, "read_noise_e": 0.0}, **panels}
    levels = np.random.default_rng(1).integers(0, 256, (2, 80, 80)).astype(np.uint8)
    whole = Roi(0, 0, 120, 120)
    straight, seen = (
        expected_electrons(MockBench(parse({**table, "camera": table["camera"] | more})), *levels, whole)
        for more in ({}, mounted)
    )
    assert seen == pytest.approx(turned(straight), rel=1e-3, abs=0.05)


def test_truth_is_an_instrument_of_its_own():
    context = OpenContext({"mock": {"slm": {"rows": 96, "cols": 96}, "display": {"rows": 96, "cols": 96}}})
    grid = {"rows": 8, "columns": 8, "pitch_rows_px": 8, "pitch_columns_px": 8}
    with open_device("mock.truth", "truth", {"layout": grid}, context) as device:
        document = device.snapshot()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["slm"]["gamma"] == 1.8
    assert len(document["effective"]["gain_map_dn"]) == 8
