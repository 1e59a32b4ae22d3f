"""Perplexity of a language model in light at three levels; a folder of Hugging Face would do as well. Ten seconds."""

from pydoc_data.topics import topics

import labctl

language = labctl.load_language(labctl.shipped_model())
ids = language.encode(topics["exprlists"])
for photons in (10, 100, 1000):
    optical = labctl.opticalize(language.model, "paper", photons_per_mac=photons)
    found = labctl.perplexity(optical, ids, context=language.context)
    print(f"{photons:4d} photons per MAC: perplexity {found.ppl:.2f} on {found.tokens} tokens")
