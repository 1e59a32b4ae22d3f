"""What every calibration can do, whichever bench it is of and however it came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calibration.statistics.difference import Family

Float = NDArray[np.float64]


@runtime_checkable
class Calibration(Protocol):
    """A calibration: of a bench that we drive (`calibration.machine.artefact.Calibration`), or of one that somebody
    else drives and whose products we were given (`calibration.response.model.Response`)."""

    @property
    def id(self) -> str:
        """Kind and content, such as ``"cal-0123456789abcdef"``: equal calibrations have equal ids."""

    @property
    def parent(self) -> str | None:
        """Id of the calibration that it replaces."""

    @property
    def acquired(self) -> str:
        """When its data were taken; ISO 8601, UTC; empty when nobody said."""

    @property
    def valid_until(self) -> str:
        """When it has to be made anew; ISO 8601, UTC; empty when nobody said."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Bench, run and code; JSON types."""

    def header(self) -> dict[str, Any]:
        """The JSON header of its file: id, schema, and everything that is no array."""

    def families(self) -> list[Family]:
        """Its numbers by family, to be compared with those of another calibration of the bench."""

    def predict(self, weights: Float, inputs: Float) -> tuple[Float, Float]:
        """Expected readings of non-negative ``inputs`` (n, K) through ``weights`` (M, K) and their standard deviation.

        Both are (n, M), in the unit in which the calibration was fitted. Operands are in its own scale: shares of full
        transmission on a bench that we drive, the numbers of the file on another.
        """
