"""A bench whose macropixels differ, under a source that drifts: measured one by one, and where the drift is zero."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.frames.products import ProductGroup
from labctl.archive import RunWriter
from labctl.bench.acquirer import Acquirer
from labctl.bench.bench import open_bench
from labctl.engine.ledger import Ledger
from labctl.engine.walk import walk_on
from labctl.nodes.analysis import analysis_of
from labctl.nodes.registry import MACHINE, with_parents
from labctl.nodes.scans import COUPLINGS, EPOCH
from labctl.nodes.validation import VALIDATION_NODE, validation_of
from labctl.station.loading import find_station, load_station
from mock_hardware.bench import MockBench
from mock_hardware.config import parse

SMALL = (
    "layout.rows=24", "layout.columns=32", "mock.slm.rows=200", "mock.slm.cols=240", "mock.display.rows=220",
    "mock.display.cols=260", "mock.camera.rows=240", "mock.camera.cols=280", "acquisition.lut_repeats=2",
    "mock.drift.power_walk_per_sqrt_s=0.001",
)  # fmt: skip


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    loaded = load_station(find_station("paper"), SMALL)
    station, ledger = loaded.station, Ledger()
    rng = np.random.default_rng(0)
    weight, inputs = rng.standard_normal((24, 32)).astype(np.float32), rng.standard_normal((60, 32)).astype(np.float32)
    positions = np.stack([np.zeros(60, np.int64), np.arange(60)], axis=1)
    scale = float(np.percentile(np.abs(weight), 99))
    groups = (ProductGroup("qk", "qk", 0, weight, inputs, inputs @ weight.T, positions, scale),)
    with RunWriter.create(tmp_path_factory.mktemp("runs"), "test", loaded) as run, open_bench(station) as bench:
        acquirer = Acquirer(bench, run, station.acquisition)
        walk = walk_on(acquirer, station, with_parents([MACHINE]), ledger, groups)
        walk.read(VALIDATION_NODE.steps(walk.setting, walk.results))
    figures = {metric.name: metric.value for metric in ledger.metrics}
    return station, groups, analysis_of(walk.results), walk.evidence, figures


def test_macropixels_are_measured_one_by_one(calibrated):
    _, _, analysis, evidence, metrics = calibrated
    assert metrics["crosstalk_chi2_per_dof"] > 100  # common crosstalk explains nothing here
    assert analysis.fit.channel.couplings is not None
    assert "couplings" in evidence.references
    assert metrics["probe_chi2_per_dof"] < metrics["common_probe_chi2_per_dof"] / 3  # the source drifts, too


def test_drift_is_that_of_the_source_and_zero_over_the_couplings(calibrated):
    """Each reference knows the light to 0.2 %, and the source wanders by a few per mille between them."""
    station, groups, analysis, evidence, _ = calibrated
    found = validation_of(analysis.machine, analysis.geometry, groups, evidence, station.limits, [])
    assert found.drift.track.model == "walk"
    source = MockBench(parse(station.mock)).drift
    fitted = np.array([source.power(t) for t in evidence.scans["couplings"].at_s]).mean()
    at_s = np.concatenate([readings.at_s for _, readings in evidence.tiles])
    power = np.array([source.power(t) for t in at_s]) / fitted - 1
    course, covariance = found.drift.track.at(at_s)
    assert np.abs(power).mean() > 0.003  # there is something to follow
    assert np.abs(course[:, 0] - power).mean() < 2 * np.sqrt(covariance[:, 0, 0].mean())
    assert found.validation.chi2_per_dof == pytest.approx(1.0, abs=0.25)


def test_drift_is_zero_over_the_scans_that_were_fitted_where_couplings_were_measured_but_not_kept(calibrated):
    """The light of the coupling scan is another; with its zero all products were off by the difference."""
    station, groups, analysis, evidence, _ = calibrated
    common = replace(analysis.machine, channel=replace(analysis.machine.channel, couplings=None))
    found = validation_of(common, analysis.geometry, groups, evidence, station.limits, [])

    def course(names):
        at_s = np.unique(np.concatenate([r.at_s for name in names for r in evidence.references[name]]))
        return found.drift.track.at(at_s)[0][:, 0].mean()

    assert course(EPOCH) == pytest.approx(0.0, abs=1e-9)
    assert abs(course([COUPLINGS])) > 1e-3
