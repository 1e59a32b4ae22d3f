"""Adapt a shipped Transformer to ten photons per multiply–accumulate on the paper's bench. About twenty seconds."""

from pathlib import Path
from tempfile import TemporaryDirectory

import labctl

MODEL = Path(__file__).parents[1] / "data" / "models" / "family" / "optical-gpt-d32.safetensors"

with TemporaryDirectory() as folder:
    how = labctl.AdaptConfig(photons_per_mac=10.0, tokens=3000, batch=4, context=64, score_tokens=128)
    found = labctl.adapt(MODEL, "paper", f"{folder}/adapted", config=how, score_tokens=512)
    for score in found.scores:
        print(
            f"{score.run_as:16s} perplexity {score.ppl:.1f} ± {score.stderr:.1f}, {score.times_digital:.2f} × digital"
        )
