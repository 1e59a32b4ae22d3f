"""The words of reports and pages, each in one plain sentence."""

from __future__ import annotations

from html import escape

WORDS = {
    "AIC": "Akaike's criterion: misfit plus a price for every free number; of two forms the smaller one is chosen.",
    "p": "How often chance alone would show as much: evidence below 0.001, none where it is large.",
    "activation": "A number that flows through the model from layer to layer: what the display shows.",
    "applied": "The bench uses this calibration from now on; not applied: it is kept, and the one before stays in use.",
    "bench": "Display, SLM, camera and light source as one machine; it goes by the name in its station file.",
    "calibration": "What was fitted to a bench's measurements: look-up tables, gain, crosstalk, noise, with "
    "errors. Ids begin with `cal-` (a bench that labctl drives) or `res-` (imported products).",
    "clip": "The percentile of the magnitudes that full scale stands for; what is larger is shown as full scale.",
    "coverage": "How many held-out readings lie in the interval that was to hold 95 % of them.",
    "crosstalk": "Light of one output's region that is read in its neighbour's.",
    "bleed": "Light of one display column that falls on the neighbouring column of the SLM.",
    "digital remainder": "Products of the model that are not computed in light, each with its reason.",
    "DN": "Digital number: one step of the camera's converter, the unit of raw readings.",
    "drawn bench": "A bench that the data allow as well as the fitted one: what is not known is drawn by lot.",
    "drift": "A slow change of light or readings while a recording goes on, or from night to night.",
    "effective bits": "log₂ of the output's range over the rms error of a product.",
    "fiducial": "A mark shown on a panel so that the camera finds where its pixels are.",
    "floor": "The light that a panel lets through where it is to be dark, as a part of its brightest.",
    "gain": "What a full input times a full weight adds to a reading.",
    "gate": "The comparison that decides whether a new calibration is applied: on data that it was not fitted to.",
    "guard": "The dark rim of a macropixel, which keeps its light off the neighbours.",
    "held out": "Not shown to the fit, and kept to judge it.",
    "look-up table (LUT)": "How much light each gray level of a panel lets through.",
    "MAC": "Multiply–accumulate: one weight times one input, added to a sum. The unit of a model's work.",
    "macropixel": "A rectangle of SLM pixels that holds one weight.",
    "node": "One step of the calibration (dark, timing, registration, …); a node rests on its parents.",
    "offset": "What is read though all weights and inputs are dark.",
    "pass": "One showing of non-negative numbers: a signed product takes up to four.",
    "perplexity": "How many next tokens the model hesitates between, on average: lower is better; e to the mean loss.",
    "photons per MAC": "Photons that arrive at the weight plane for each MAC and pass: the light level.",
    "probe": "A pattern that is shown to learn about the bench, and is no product of the model.",
    "product": "One matrix of the model times one vector of activations.",
    "quantisation": "Rounding to the levels that a panel or a converter has; 8 bit: 256 levels.",
    "registration": "Where each macropixel and each display column lies on the camera's frame.",
    "rms of range": "Root of the mean squared error, in per cent of the spread between an output's least and largest "
    "reading.",
    "sealed": "Closed with the hash of every file: whatever changes afterwards is found by `labctl run verify`.",
    "settle": "Wait for a number of frames until a panel stands still after a change.",
    "SLM": "Spatial light modulator: the panel that shows the weights.",
    "station": "The file that describes a bench and its limits (TOML).",
    "s_x, s_w": "The largest input and the largest weight of a product: what full scale stands for.",
    "workload": "A file of real products of a model that are to be shown: `labctl sample` writes it.",
    "χ²/dof": "Squared residuals over their predicted variance, per degree of freedom: 1 where the noise is as "
    "predicted, larger where the model misses something, smaller where the errors are overstated.",
    "±": "One standard error.",
    "95 % interval": "Where the next reading lies 95 times in 100, by the calibration.",
}
"""Word → what it means, in the words of somebody who has not read the code."""


def words_section() -> str:
    """The list for the end of a page, folded up."""
    rows = "".join(
        f"<tr><th>{escape(word)}<td>{escape(meaning.replace('`', ''))}" for word, meaning in words_in_order()
    )
    return f"<details><summary>Words used here</summary><table>{rows}</table></details>"


def words_in_order() -> list[tuple[str, str]]:
    """Each word with its meaning, as in a dictionary."""
    return sorted(WORDS.items(), key=lambda row: row[0].lower())
