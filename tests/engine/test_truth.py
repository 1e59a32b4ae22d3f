"""The calibration of the mock bench against what its optics really do, read from the pixels by this test alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from everyday import everyday
from numpy.typing import NDArray
from scipy import stats

from calibration.machine.layout import display_frame
from drivers.protocols import Roi
from labctl.archive import RunWriter
from labctl.bench.acquirer import Acquirer
from labctl.bench.bench import open_bench
from labctl.engine.walk import walk_on
from labctl.nodes.analysis import Analysis, analysis_of
from labctl.nodes.registry import MACHINE, with_parents
from mock_hardware.bench import MockBench
from mock_hardware.truth import expected_electrons, variance_dn2
from mock_hardware.truth import truth as what_it_is

Float = NDArray[np.float64]
SEEDS = (11, 12, 13, 14, 15)
SIGMAS = 3.0
BRIGHT = 255


@dataclass
class Optics:
    """Noise-free region sums [DN] of whatever the panels show."""

    bench: MockBench
    analysis: Analysis

    def electrons(self, slm: NDArray[np.bool_], columns: NDArray[np.bool_]) -> Float:
        g = self.analysis.geometry
        x, y, width, height = g.regions.window
        slm_frame = g.layout.slm_frame(np.where(slm, BRIGHT, 0).astype(np.uint8))
        display = display_frame(np.where(columns, BRIGHT, 0).astype(np.uint8), g.display_index)
        return expected_electrons(self.bench, display, slm_frame, Roi(x, y, width, height)).ravel()

    def unlit_electrons(self) -> Float:
        """Ambient light and dark current: what stays with the source off."""
        x, y, width, height = self.analysis.geometry.regions.window
        dark = np.zeros(self.analysis.geometry.layout.panel_shape, np.uint8)
        return expected_electrons(self.bench, dark, dark, Roi(x, y, width, height), source_on=False).ravel()

    def sums(self, slm: NDArray[np.bool_], columns: NDArray[np.bool_]) -> Float:
        """(M,) above the dark signal."""
        light = self.electrons(slm, columns) - self.unlit_electrons()
        return self.analysis.geometry.regions.weights @ light * self.bench.config.camera.gain_dn_per_e


@dataclass
class Truth:
    crosstalk: Float
    bleed: Float
    gain_dn: Float
    offset_dn: Float
    read_dn: float
    shot_dn: float


def effective_truth(optics: Optics) -> Truth:
    """What the channel's parameters are in this light: responses to single rows, single columns and phases."""
    m, k = optics.analysis.geometry.layout.rows, optics.analysis.geometry.layout.columns
    all_rows, all_columns = np.ones((m, k), bool), np.ones(k, bool)
    none = np.zeros((m, k), bool)
    dark = optics.sums(none, all_columns)
    by_row = np.stack([optics.sums(_row(m, k, n), all_columns) - dark for n in range(m)], axis=1)
    crosstalk = np.zeros((m, 2))
    crosstalk[1:, 0] = np.diag(by_row, -1) / np.diag(by_row)[:-1]
    crosstalk[:-1, 1] = np.diag(by_row, 1) / np.diag(by_row)[1:]

    interaction = np.zeros((3, 3))
    for b in range(3):
        lit = all_rows & (np.arange(k) % 3 == b)
        for c in range(3):
            one = np.arange(k) % 3 == c
            interaction[b, c] = (optics.sums(lit, one) - optics.sums(none, one)).sum()
            interaction[b, c] -= (optics.sums(lit, ~all_columns) - optics.sums(none, ~all_columns)).sum()
    total = interaction.sum(axis=1)
    # column k = b (mod 3) takes from k − 1 = c with c = b − 1, and from k + 1 with c = b + 1
    bleed = np.array([np.mean([interaction[b, (b + side) % 3] / total[b] for b in range(3)]) for side in (-1, 1)])

    floor = float(what_it_is(optics.bench)["display_response"][0])
    unlit = optics.sums(all_rows, ~all_columns)
    by_column = np.stack([optics.sums(all_rows, np.arange(k) == j) - unlit for j in range(k)], axis=1) / (1 - floor)
    mixing = np.eye(m)
    mixing[np.arange(1, m), np.arange(m - 1)] = crosstalk[1:, 0]
    mixing[np.arange(m - 1), np.arange(1, m)] = crosstalk[:-1, 1]
    blending = np.eye(k) * (1 - bleed.sum()) + np.eye(k, k=-1) * bleed[0] + np.eye(k, k=1) * bleed[1]
    gain = np.linalg.inv(mixing) @ by_column @ np.linalg.inv(blending)
    offset = unlit - floor * (mixing @ gain @ blending.sum(axis=1))

    weights = optics.analysis.geometry.regions.weights
    squares = weights.multiply(weights).tocsr()
    source = optics.bench.config.source  # 10 ms, the exposure that peak_electrons counts at
    stray_e = source.power_mw * source.peak_electrons * optics.bench.config.optics.stray_fraction
    floor_e = optics.unlit_electrons() + stray_e
    read_variance = squares @ variance_dn2(optics.bench, floor_e)
    lit_e = optics.electrons(all_rows, all_columns)
    more = squares @ (variance_dn2(optics.bench, lit_e) - variance_dn2(optics.bench, floor_e))
    shot_dn = more / (weights @ (lit_e - floor_e) * optics.bench.config.camera.gain_dn_per_e)
    return Truth(
        crosstalk,
        bleed,
        gain,
        offset,
        float(np.sqrt(read_variance.mean())),
        float(shot_dn.mean()),
    )


@pytest.mark.parametrize("seed", everyday(SEEDS, 0))
def test_parameters_lie_within_three_standard_errors_of_what_the_optics_do(
    seed: int, larger_station, tmp_path: Path
) -> None:
    loaded = larger_station(seed)
    with RunWriter.create(tmp_path / "runs", "truth", loaded) as run, open_bench(loaded.station) as bench:
        acquirer = Acquirer(bench, run, loaded.station.acquisition)
        analysis = analysis_of(walk_on(acquirer, loaded.station, with_parents([MACHINE])).results)
        truth = effective_truth(Optics(bench.camera.bench, analysis))
        rin = bench.camera.bench.config.source.rin_rms
    c = analysis.fit.channel
    scalars = {
        "read noise": (c.noise.read_dn - truth.read_dn) / c.noise.stderr[0],
        "shot noise": (c.noise.shot_dn - truth.shot_dn) / c.noise.stderr[1],
        "intensity noise": (c.noise.flicker - rin) / c.noise.stderr[2],
        "bleed before": (c.bleed[0] - truth.bleed[0]) / c.bleed_stderr[0],
        "bleed after": (c.bleed[1] - truth.bleed[1]) / c.bleed_stderr[1],
    }
    assert {name: z for name, z in scalars.items() if abs(z) > 3.9} == {}  # 3 sigma for a family of 25
    # a smooth map's error is that of its few parameters: compare with the smooth part of the truth. What is left of
    # the truth is small: the outermost rows border on SLM that is dark but not black (floor × crosstalk, 0.1 %)
    smooth = smooth_part(truth.gain_dn, int(analysis.fit.structure["gain"].chosen.removeprefix("smooth(").rstrip(")")))
    z_gain = (c.gain_dn - smooth) / c.gain_stderr_dn
    assert np.abs(z_gain).max() < np.sqrt(stats.chi2.isf(0.0027, 15))  # 3 sigma, for the worst point of ≤ 15 parameters
    assert np.mean(np.abs(z_gain) < SIGMAS) > 0.9
    assert np.abs(c.gain_dn / truth.gain_dn - 1).max() < 0.02  # single macropixels: sub-pixel sampling, ± 1 %
    z_offset = (c.offset_dn - truth.offset_dn) / c.offset_stderr_dn
    assert np.abs(z_offset).max() < 3.9  # 32 independent outputs: 3 standard errors for one is 3.9 for the largest
    sides = ((slice(1, None), 0), (slice(None, -1), 1))
    if analysis.fit.structure["crosstalk"].chosen == "common":
        z_crosstalk = [
            (c.crosstalk[s].mean() - truth.crosstalk[s].mean()) / c.crosstalk_stderr[s].mean() for s in sides
        ]
        assert np.abs(z_crosstalk).max() < SIGMAS
    else:
        z = [(c.crosstalk[s] - truth.crosstalk[s]) / c.crosstalk_stderr[s] for s in sides]
        assert np.abs(z).max() < 3.9


def smooth_part(gain: Float, degree: int) -> Float:
    """Least-squares polynomial of total degree ``degree`` in row and column."""
    m, k = gain.shape
    y, x = np.meshgrid(np.linspace(-1, 1, m), np.linspace(-1, 1, k), indexing="ij")
    terms = [(y**i * x**j).ravel() for i in range(degree + 1) for j in range(degree + 1 - i)]
    basis = np.stack(terms, axis=1)
    return (basis @ np.linalg.lstsq(basis, gain.ravel(), rcond=None)[0]).reshape(m, k)


def _row(m: int, k: int, n: int) -> NDArray[np.bool_]:
    lit = np.zeros((m, k), bool)
    lit[n] = True
    return lit
