"""Measure real products on a small mock bench, load the calibration it exports, and run the model on it.

Half a minute. On real optics only the station file differs: `labctl.measure(products, "bench-a.toml")`.
"""

import tempfile
from pathlib import Path

import labctl
from simulation.models.text import pydoc_text

MODEL = Path(__file__).parents[1] / "data" / "models" / "family" / "optical-gpt-d32.safetensors"
STATION = """
[bench]
name = "small"
[layout]
rows = 32
columns = 32
[mock]
slm = { rows = 256, cols = 320 }
display = { rows = 256, cols = 320 }
camera = { rows = 310, cols = 380 }
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small.toml").write_text(STATION)
        products = folder / "products.h5"
        labctl.command("sample", MODEL, "-o", products, "--per-layer", 4)
        summary = labctl.measure(products, folder / "small.toml", runs=folder / "runs").summary()
        found = summary.validation
        print(f"{found.products} products, {found.effective_bits:.1f} bits, χ²/dof {found.chi2_per_dof:.3f}")

        language = labctl.load_language(MODEL)
        ids = language.encode(pydoc_text("heldout").content)[:513]
        print("digital perplexity", round(labctl.perplexity(language.model, ids, context=128).ppl, 2))
        for photons in (100, 10_000):
            optical = labctl.opticalize(language.model, summary.calibration.path, photons_per_mac=photons)
            print(f"{photons:6d} photons/MAC  ", round(labctl.perplexity(optical, ids, context=128).ppl, 2))


if __name__ == "__main__":
    main()
