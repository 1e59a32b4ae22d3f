"""Run a shipped Transformer in light, on the model of the paper's bench, and compare its perplexity. About ten seconds.

`opticalize` gives a copy of a torch model whose linear layers and attention products come out as the bench would give
them. Photons are counted at the weight plane, per multiply–accumulate and pass.
"""

from pathlib import Path

import labctl
from simulation import quantise_int8
from simulation.models.text import pydoc_text

MODEL = Path(__file__).parents[1] / "data" / "models" / "family" / "optical-gpt-d32.safetensors"


def main() -> None:
    language = labctl.load_language(MODEL)
    ids = language.encode(pydoc_text("heldout").content)[:1025]

    def score(model: object) -> str:
        found = labctl.perplexity(model, ids, context=128)
        return f"{found.ppl:9.2f}   {found.nats_per_token:.3f} ± {found.stderr:.3f} nats per token"

    print(f"{len(ids) - 1} tokens of Python's documentation, {MODEL.stem}")
    print("digital             ", score(language.model))
    print("8 bit               ", score(quantise_int8(language.model)))
    for photons in (10, 100, 1000, 10_000):
        optical = labctl.opticalize(language.model, "paper", photons_per_mac=photons, seed=0)
        print(f"{photons:6d} photons/MAC   ", score(optical))
    total = labctl.optical_report(optical).total
    print(f"the last line took {total.photons:.3g} photons for {total.macs:.3g} multiply–accumulates")


if __name__ == "__main__":
    main()
