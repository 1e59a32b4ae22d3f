"""Node *dark*: what the camera reads with the light off."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from calibration.bench.dark import Dark, fit_dark
from labctl.bench.steps import Exposure, Step, WholeFrames
from labctl.nodes.evidence import DARK, Evidence
from labctl.nodes.node import Node, Results, Setting
from labctl.summary import Metric

CHECK_FRAMES = 4
SIGMAS = 5.0
MOVED_MAX = 0.02


class DarkNode(Node[Dark]):
    """Level and noise of every pixel without light."""

    name = "dark"
    kind = DARK
    max_age_h = 12.0
    keys = (
        "devices.camera",
        "mock",
        "acquisition.exposure_s",
        "acquisition.slm_settle_frames",
        "acquisition.dark_frames",
    )

    def steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        yield self._step(setting, DARK, setting.station.acquisition.dark_frames)

    def missing(self, evidence: Evidence, setting: Setting) -> list[str]:
        return [] if len(evidence.dark) else ["dark frames"]

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> Dark:
        dark = fit_dark(evidence.dark, evidence.full_scale_dn)
        metrics.append(Metric.judge("dark_level", dark.level_dn, "DN", stderr=dark.level_stderr_dn))
        metrics.append(Metric.judge("dark_noise", dark.noise_dn, "DN"))
        metrics.append(Metric.judge("hot_pixels", dark.hot_pixels, "1"))
        metrics.append(Metric.judge("useless_pixels", int(dark.useless.sum()), "1"))
        return dark

    def check_steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        yield self._step(setting, DARK, CHECK_FRAMES)

    def check(self, readings: Evidence, evidence: Evidence, results: Results, setting: Setting) -> list[Metric]:
        """The level may not have moved by more than its errors explain, or a fiftieth of a pixel's noise.

        A level that moves a little shifts all outputs alike, which reference frames see and correct.
        """
        now, then = fit_dark(readings.dark, readings.full_scale_dn), results[self]
        stderr = float(np.hypot(now.level_stderr_dn, then.level_stderr_dn))
        moved = abs(now.level_dn - then.level_dn)
        return [
            Metric.judge("dark_level_checked", now.level_dn, "DN", stderr=now.level_stderr_dn),
            Metric.judge(
                "dark_level_moved", moved, "DN", stderr=stderr, maximum=max(SIGMAS * stderr, MOVED_MAX * then.noise_dn)
            ),
        ]

    def _step(self, setting: Setting, kind: str, frames: int) -> Step:
        facts = setting.facts
        assert facts is not None
        black = Exposure(facts.uniform("display", 0), facts.uniform("slm", 0), frames)
        return WholeFrames(kind=kind, exposures=(black,), lit=False)


DARK_NODE = DarkNode()
