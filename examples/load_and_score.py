"""Perplexity of a language model in light at three levels; a folder of Hugging Face would do as well. Ten seconds."""

import labctl

language = labctl.load_language(labctl.shipped_model())
ids = language.encode("The value of the expression is the value of its last operand. " * 20)
for photons in (3, 30, 300):
    optical = labctl.opticalize(language.model, "paper", photons_per_mac=photons)
    found = labctl.perplexity(optical, ids, context=language.context)
    print(f"{photons:4d} photons per MAC: perplexity {found.ppl:.2f} on {found.tokens} tokens")
