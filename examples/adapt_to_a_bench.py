"""Adapt a shipped Transformer to three photons per multiply–accumulate on the paper's bench. About a minute."""

from pathlib import Path
from tempfile import TemporaryDirectory

import labctl

MODEL = Path(__file__).parents[1] / "data" / "models" / "family" / "optical-gpt-d32.safetensors"

with TemporaryDirectory() as folder:
    how = labctl.AdaptConfig(photons_per_mac=3.0, tokens=16_384, batch=8, context=64)
    found = labctl.adapt(MODEL, "paper", f"{folder}/adapted", config=how, score_tokens=1024)
    for score in found.scores:
        print(f"{score.run_as:16s} perplexity {score.ppl:6.1f} ± {score.stderr:.1f}, {score.times_digital:.2f} × digital")
