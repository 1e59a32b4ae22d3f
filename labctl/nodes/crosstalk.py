"""Node *crosstalk*: what outputs and columns give to their neighbours, as the fit of all parameters has it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from calibration.fit.channel import ChannelFit
from labctl.nodes.evidence import Evidence
from labctl.nodes.gain import GAIN_NODE
from labctl.nodes.node import HARDWARE, Node, Results, Setting, Titled
from labctl.summary import Metric


class CrosstalkNode(Node[ChannelFit]):
    """It reads no frames of its own: the gain's scans are fitted with gain and crosstalk at once."""

    name = "crosstalk"
    parents = (GAIN_NODE,)
    max_age_h = 24.0
    keys = (*HARDWARE, "acquisition.crosstalk_repeats")

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> ChannelFit:
        fit = results[GAIN_NODE].fit
        metrics += [
            *shares(fit, "common_"),
            Metric.judge("crosstalk_chi2_per_dof", fit.chi2_per_dof["crosstalk"], "1"),
        ]
        return fit

    def figures(self, evidence: Evidence, results: Results, setting: Setting) -> Iterator[Titled]:
        from labctl.nodes import figures

        yield Titled("Crosstalk", "What the lens puts into the neighbour's region.", figures.crosstalk(results[self]))


def shares(fit: ChannelFit, prefix: str = "") -> list[Metric]:
    """Mean crosstalk of the outputs that have two neighbours, and mean bleed, of a channel.

    Of a single output there is no crosstalk, and of a single column no bleed.
    """
    c, found = fit.channel, []
    inner = slice(1, -1) if len(c.crosstalk) > 2 else slice(None)
    if c.shape[0] > 1:
        mean = float(c.crosstalk[inner].mean())
        found.append(Metric.judge(f"{prefix}crosstalk_mean", mean, "1", stderr=_crosstalk_error(fit, inner)))
    if c.shape[1] > 1:
        bleed_error = float(np.sqrt((c.bleed_stderr**2).mean() / 2))
        found.append(Metric.judge(f"{prefix}bleed_mean", float(c.bleed.mean()), "1", stderr=bleed_error))
    return found


def _crosstalk_error(fit: ChannelFit, inner: slice) -> float:
    """Standard error of the mean: of independent pairs, or of the one pair that all outputs share."""
    error = fit.channel.crosstalk_stderr[inner]
    independent = fit.structure["crosstalk"].chosen == "per output" or fit.channel.couplings is not None
    return float(np.sqrt((error**2).sum()) / error.size) if independent else float(np.sqrt((error[0] ** 2).sum()) / 2)


CROSSTALK_NODE = CrosstalkNode()
