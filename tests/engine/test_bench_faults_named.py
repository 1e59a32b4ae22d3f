"""What is wrong with a bench is named as what it is, with its number, at the node where it first shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from everyday import everyday

from calibration.errors import BadScan, CalibrationError, Saturated
from calibration.frames.products import ProductGroup
from calibration.machine.layout import apply_homography
from labctl.archive import RunWriter
from labctl.bench.acquirer import Acquirer
from labctl.bench.bench import open_bench
from labctl.bench.check import check_station
from labctl.engine.ledger import Ledger
from labctl.engine.walk import Walk, walk_on
from labctl.nodes.couplings import COUPLINGS_NODE
from labctl.nodes.dark import DARK_NODE
from labctl.nodes.registration import REGISTRATION_NODE
from labctl.nodes.registry import MACHINE, with_parents
from labctl.nodes.timing import TIMING_NODE
from labctl.nodes.validation import VALIDATION_NODE
from labctl.station.loading import load_station
from mock_hardware.bench import MockBench
from mock_hardware.config import parse
from mock_hardware.geometry import panel_to_camera

ROWS, COLUMNS = 16, 16
SMALL = (
    f"layout.rows={ROWS}", f"layout.columns={COLUMNS}", "mock.slm.rows=160", "mock.slm.cols=180",
    "mock.display.rows=160", "mock.display.cols=180", "mock.camera.rows=210", "mock.camera.cols=230",
)  # fmt: skip
TURNED = (
    "mock.slm.rotation_deg=2.5", "mock.display.rotation_deg=-2.5", "mock.slm.magnification=0.8",
    "mock.display.magnification=0.71", "mock.optics.camera_psf_px=1.2", "mock.source.power_mw=3.0",
)  # fmt: skip
"""Incommensurate panels, turned against each other: common bleed and crosstalk do not explain them."""
Walked = tuple[Walk, Ledger]


def group() -> ProductGroup:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    inputs = rng.standard_normal((30, COLUMNS)).astype(np.float32)
    positions = np.stack([np.zeros(30, np.int64), np.arange(30)], axis=1)
    return ProductGroup("random", "linear", 0, weight, inputs, inputs @ weight.T, positions, 2.0)


@pytest.fixture
def walked(tmp_path: Path) -> Callable[..., Walked]:
    """Walks over nodes of a small bench with these settings, the whole machine and products if none is named."""

    def walk(*settings: str, nodes: Any = None) -> Walked:
        loaded, ledger = load_station(None, SMALL + settings), Ledger()
        with RunWriter.create(tmp_path, "test", loaded) as run, open_bench(loaded.station) as bench:
            acquirer = Acquirer(bench, run, loaded.station.acquisition)
            found = walk_on(acquirer, loaded.station, with_parents(nodes or [MACHINE]), ledger, (group(),))
            if nodes is None:
                found.go([VALIDATION_NODE])
        return found, ledger

    return walk


@pytest.mark.parametrize(
    ("settings", "node", "words"),
    [
        (("mock.source.power_mw=0.0",), TIMING_NODE, "no light"),
        (("mock.source.power_mw=0.005",), TIMING_NODE, "too little light"),
        (("mock.source.power_mw=0.02",), REGISTRATION_NODE, "too little light"),
        (("mock.optics.camera_psf_px=8.0",), REGISTRATION_NODE, "slm.*out of focus"),
        (("mock.optics.camera_psf_px=16.0",), REGISTRATION_NODE, "out of focus"),
        (("mock.optics.display_psf_px=8.0",), REGISTRATION_NODE, "display.*out of focus"),
        (("mock.slm.inverted=true",), TIMING_NODE, "the slm is inverted"),
        (("mock.display.inverted=true",), TIMING_NODE, "the display is inverted"),
        (("mock.slm.elsewhere=true",), TIMING_NODE, "does not follow a step of the slm"),
        (("mock.display.elsewhere=true",), TIMING_NODE, "does not follow a step of the display"),
        (("mock.optics.beam_radius_px=25",), REGISTRATION_NODE, "too little light from a corner of the slm"),
        (("mock.camera.clips_at_dn=1500", "mock.source.power_mw=2.5"), REGISTRATION_NODE, "pile up at 1500 DN"),
        (("mock.camera.shift_bits=1",), DARK_NODE, "left-aligned|larger numbers"),
        (("mock.camera.shift_bits=4",), DARK_NODE, "left-aligned"),
        (
            ("mock.camera.bit_depth=10", "mock.camera.black_level_dn=20.0", "mock.camera.shift_bits=6"),
            DARK_NODE,
            "left",
        ),
        (
            ("mock.display.rows=68", "mock.display.cols=76", "mock.display.magnification=2.4"),
            REGISTRATION_NODE,
            "too small",
        ),
        (("mock.camera.black_level_dn=0.0",), DARK_NODE, "cut off at zero"),
        (("mock.camera.clips_at_dn=900",), REGISTRATION_NODE, "clips and does not say so"),
    ],
)
def test_fault_is_named_at_the_node_where_it_first_shows(walked, settings, node, words) -> None:
    with pytest.raises(CalibrationError, match=words) as caught:
        walked(*settings, nodes=[node])
    assert caught.value.action == node.name
    assert caught.value.seen
    assert caught.value.hint


@pytest.mark.parametrize("panel", everyday(["slm", "display"], 0))
def test_panel_driven_past_its_brightest_level_is_called_folded(walked, panel) -> None:
    with pytest.raises(BadScan, match=f"the {panel} is folded: its light rises up to gray 2[0-2]"):
        walked(f"mock.{panel}.retardance=1.4", f"mock.{panel}.s_shape=1.0")


UNUSUAL = [
    ("mock.camera.mirrored=true",),
    ("mock.slm.mirrored=true",),
    ("mock.display.rotation_deg=179.0", "mock.slm.rotation_deg=-2.0"),
    ("mock.slm.keystone_x=0.15", "mock.display.keystone_x=0.15", "mock.display.keystone_y=-0.1"),
    ("mock.optics.distortion=0.02", "mock.slm.rotation_deg=3.0"),
    ("mock.camera.hot_fraction=0.0005", "mock.camera.hot_e_per_s=300000.0"),
    ("mock.display.mirrored=true",),
    ("mock.camera.turned_deg=90",),
    ("layout.rows=1",),
    ("layout.columns=1",),
    ("layout.rows=2",),
    ("layout.columns=2",),
]


@pytest.mark.parametrize("settings", everyday([(settings,) for settings in UNUSUAL], 0, 3))
def test_bench_that_only_looks_unusual_is_in_spec(walked, settings) -> None:
    _, ledger = walked(*settings)
    assert ledger.out_of_spec == []


@pytest.mark.parametrize(
    ("first", "name", "back"),
    everyday(
        [
            ("1500", "slm_ramp", "did not come back"),
            ("2500", "noise", "did"),
            ("700:600", "slm_ramp", "came back later"),
        ],
        0,
        2,
    ),
)
def test_light_that_goes_out_in_the_middle_is_named_with_its_time(walked, first, name, back) -> None:
    with pytest.raises(BadScan, match=f"the light went out in the {name}, and {back}") as caught:
        walked(f'mock.faults=["blackout@{first}"]')
    assert "device time" in caught.value.seen


def test_station_that_waits_too_few_frames_is_out_of_spec_and_told_how_many(walked) -> None:
    _, ledger = walked("acquisition.slm_settle_frames=1", nodes=[TIMING_NODE])
    assert "set acquisition.slm_settle_frames = 3" in ledger.out_of_spec[0]
    _, ledger = walked("acquisition.display_settle_frames=0", nodes=[TIMING_NODE])
    assert "set acquisition.display_settle_frames = " in ledger.out_of_spec[0]
    assert walked(nodes=[TIMING_NODE])[1].out_of_spec == []


def test_dots_that_noise_scatters_ask_for_light_and_not_for_alignment(walked) -> None:
    _, ledger = walked("mock.source.power_mw=0.06", "mock.optics.camera_psf_px=3.0", nodes=[REGISTRATION_NODE])
    assert "too little light: noise alone places a dot to 0." in ledger.out_of_spec[0]


def test_too_little_light_for_the_products_says_how_much_more(walked) -> None:
    """At a tenth of the light the products scatter 3.2 times as much; χ² says that it is noise."""
    _, ledger = walked("mock.source.power_mw=0.06")
    assert "noise and no misfit, too little light" in ledger.out_of_spec[0]


def test_stuck_and_dead_pixels_are_carried_and_listed(walked) -> None:
    flawed = [f"mock.{p}.{k}_fraction=0.0005" for p in ("slm", "display") for k in ("stuck", "dead")]
    found, ledger = walked(*flawed, "mock.source.power_mw=3.0")
    assert ledger.out_of_spec == []
    figures = {metric.name: metric.value for metric in ledger.metrics}
    listed = found.results[COUPLINGS_NODE].flaws
    assert figures["flawed_macropixels"] == len(listed) > 0
    titles = [part.title for part in COUPLINGS_NODE.figures(found.evidence, found.results, found.setting)]
    assert "Macropixels that differ" in titles


def test_stuck_display_pixels_are_listed_with_the_macropixels_that_they_shine_through(walked) -> None:
    """With this seed two of six stuck pixels lie on active areas, as the mock's own geometry places them."""
    found, ledger = walked("mock.display.stuck_fraction=0.0002", "mock.source.power_mw=3.0", "mock.seed=149")
    config = parse(found.setting.station.mock)
    row, column = np.divmod(MockBench(config).optics.display.stuck, config.display.cols)
    across = np.linalg.inv(panel_to_camera(config.slm, config.camera)) @ panel_to_camera(config.display, config.camera)
    x, y = apply_homography(across, column.astype(float), row.astype(float))
    layout = found.results[REGISTRATION_NODE].layout
    top, _, left, _ = layout.box_px
    m, k = (y - top) / layout.pitch_rows_px, (x - left) / layout.pitch_columns_px
    on = (m > 0) & (m < ROWS) & (k > 0) & (k < COLUMNS) & (np.abs(m % 1 - 0.5) < 0.3) & (np.abs(k % 1 - 0.5) < 0.2)
    lit = {(f.row, f.column) for f in found.results[COUPLINGS_NODE].flaws if f.kind == "lit"}
    assert lit == set(zip(m[on].astype(int).tolist(), k[on].astype(int).tolist(), strict=True))
    assert len(lit) == 2
    assert ledger.out_of_spec == []
    (part,) = [p for p in COUPLINGS_NODE.figures(found.evidence, found.results, found.setting) if "differ" in p.title]
    assert "(6, 9) lit by" in part.words


def test_mean_crosstalk_is_that_of_the_exported_channel(walked) -> None:
    found, ledger = walked(*TURNED)
    channel = found.results[COUPLINGS_NODE].machine.channel
    assert found.results[COUPLINGS_NODE].fit.structure["couplings"].chosen == "single macropixels"
    told = next(metric for metric in ledger.metrics if metric.name == "crosstalk_mean")
    assert told.value == channel.crosstalk[1:-1].mean()
    before = next(metric for metric in ledger.metrics if metric.name == "common_crosstalk_mean")
    assert before.value != told.value


def test_too_bright_says_how_many_pixels(walked) -> None:
    with pytest.raises(Saturated, match="steps of the slm") as caught:
        walked("mock.source.power_mw=8.0", nodes=[TIMING_NODE])
    assert float(caught.value.seen) > 0.1


@pytest.mark.parametrize(
    "setting",
    [
        "mock.slm.keystone_x=0.5",
        "mock.camera.black_level_dn=5000.0",
        "mock.camera.exposure_max_s=0.000001",
        "mock.camera.turned_deg=400.0",
        "mock.display.stuck_fraction=0.5",
    ],
)
def test_station_check_refuses_a_mock_bench_that_cannot_be(setting) -> None:
    rows = check_station(load_station(None, (setting,)))
    assert any(row.state == "FAIL" and setting.partition("=")[0] in row.detail for row in rows)
