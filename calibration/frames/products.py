"""Matrix–vector products of a real model, grouped by the matrix that stays on the SLM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadOperands


@dataclass(frozen=True)
class ProductGroup:
    """``outputs[i] = weight @ inputs[i]``: one weight-stationary matrix and the vectors that meet it.

    Attributes
    ----------
    name
        Where it comes from: ``"blocks.0.ffn.down"``, ``"blocks.3.attention.qk/head2/seq5"``.
    operation
        ``"linear"``, ``"qk"`` (Q·Kᵀ: the matrix is K) or ``"av"`` (softmax weights · V: the matrix is Vᵀ).
    block
        Index of the Transformer block.
    weight
        (M, K) float32, as in the model.
    inputs
        (n, K) float32, as in the model.
    outputs
        (n, M) float32, what the digital model computed (no bias).
    positions
        (n, 2) int64: sequence number and position in it.
    weight_scale
        s_w: the magnitude that full transmission stands for, after clipping at a percentile.
    """

    name: str
    operation: str
    block: int
    weight: NDArray[np.float32]
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    positions: NDArray[np.int64]
    weight_scale: float

    def __post_init__(self) -> None:
        m, k = self.weight.shape
        n = len(self.inputs)
        if self.inputs.shape != (n, k) or self.outputs.shape != (n, m) or self.positions.shape != (n, 2):
            raise BadOperands(
                "shapes of a product group do not fit together",
                device=self.name,
                expected=f"weight (M, K), inputs (n, K), outputs (n, M), positions (n, 2) with M={m}, K={k}, n={n}",
                seen=f"inputs {self.inputs.shape}, outputs {self.outputs.shape}, positions {self.positions.shape}",
                hint="labctl sample MODEL -o products.h5",
            )
        for field in ("weight", "inputs", "outputs"):
            bad = int(np.size(getattr(self, field)) - np.isfinite(getattr(self, field)).sum())
            if bad:
                raise BadOperands(
                    f"{field} of a product group holds {bad} values that are not finite numbers",
                    device=self.name,
                    expected="finite numbers",
                    seen=f"{bad} NaN or infinite",
                    hint="check the checkpoint, then: labctl sample MODEL -o products.h5",
                )
        if not (np.isfinite(self.weight_scale) and self.weight_scale > 0):
            raise BadOperands("weight scale must be positive", device=self.name, seen=str(self.weight_scale))

    @property
    def input_scales(self) -> NDArray[np.float64]:
        """(n,) s_x: the largest magnitude of each input vector (1 where the vector is zero)."""
        peak = np.abs(self.inputs).max(axis=1).astype(np.float64)
        return np.where(peak > 0, peak, 1.0)
