"""Where `labctl simulate` computes."""

from __future__ import annotations

import json

import pytest
import torch


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a graphics processor")
@pytest.mark.parametrize("device", ["cuda", "cuda:3", "gpu", "meta"])
def test_a_device_that_is_not_there_is_refused_with_one_that_is(labctl, device: str, tmp_path) -> None:
    """Before any file is opened: the model that is named is not there either."""
    code, _, said = labctl("simulate", "ideal", tmp_path / "none.safetensors", "--device", device)
    assert code == 2
    assert "E-CAL-005" in said
    assert device in said
    hint = said.split("try:")[1].split()
    code, out, _ = labctl("simulate", "ideal", "--tokens", "40", "--photons-per-mac", "100", *hint, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["device"] == "cpu"
    found = document["simulation"]["perplexity"]
    assert found["optical"] == pytest.approx(found["digital"], rel=1e-4)
