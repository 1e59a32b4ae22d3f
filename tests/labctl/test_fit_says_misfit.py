"""``labctl fit`` says what is left over that is no noise: printed, in the document, and on the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Invoke = Callable[..., tuple[int, str, str]]


@pytest.mark.usefixtures("here")
def test_misfit_is_printed_stored_and_on_the_page(labctl: Invoke) -> None:
    rng = np.random.default_rng(60)
    weights, inputs = rng.random((3, 8)), rng.random((400, 8))
    light = 800 * inputs @ weights.T
    light[1:] += 0.01 * light[:-1]  # of more, the fit is not applied
    np.savez("x.npz", inputs=inputs, weights=weights, readings=100 + light + 5 * rng.normal(size=light.shape))
    assert labctl("import", "x.npz")[0] == 0
    code, out, _ = labctl("fit")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.split()[:1] == ["misfit"]]
    assert "row before" in line
    fitted = json.loads(labctl("fit", "--json")[1])
    assert fitted["structure"]["misfit"]["chosen"] == "row before"
    words = fitted["structure"]["misfit"]["reason"]
    assert "of the scatter about the fit is no noise" in words
    assert "the row before" in Path(fitted["report"]).read_text(encoding="utf-8")
