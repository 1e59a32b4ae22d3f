"""A Transformer on a bench: its perplexity in light, and where the light went."""

from __future__ import annotations

from labctl.summary.parts import Number, Part


class Perplexity(Part):
    """Of the same text: the model as it is, with 8-bit operands, and in light.

    Standard errors are those of reading a finite text: they tell how another text of the same kind and length would
    differ. Noise of another seed is not in them.
    """

    digital: Number
    int8: Number = None
    optical: Number = None
    digital_stderr: Number = None
    int8_stderr: Number = None
    optical_stderr: Number = None


class LightLevel(Part):
    """Perplexity in light at one photon budget."""

    photons_per_mac: float
    perplexity: Number
    stderr: Number = None


class DigitalShare(Part):
    """Multiply–accumulates that stay digital for one reason, as a part of all that the model does."""

    why: str
    share: float


class LightUsed(Part):
    """What a bench took for each multiply–accumulate of the model in light.

    Photons are counted at the weight plane, per MAC and pass; electrons per MAC, all passes together. ``frames``,
    ``input_conversions`` (DAC) and ``output_conversions`` (ADC) are per MAC of the model, and so are the ``scales``
    of tiles that were moved beside the readings.
    """

    photons_per_mac: Number = None
    electrons_per_mac: Number = None
    frames: Number = None
    input_conversions: Number = None
    output_conversions: Number = None
    scales: Number = None


class LightOfProduct(Part):
    """Photons at the weight plane per MAC and pass that one product got; ``kind`` is ffn, qkvo, qk or av."""

    name: str
    kind: str
    photons_per_mac: float


class LightScore(Part):
    """What one way to share out light gave: Kullback–Leibler divergence from the digital model, and perplexity.

    ``photons_per_mac`` is what was really shown, in the mean over all passes; ``kl`` is in nats per token.
    """

    photons_per_mac: Number
    kl: Number
    kl_stderr: Number
    perplexity: Number
    perplexity_stderr: Number


class LightBudget(Part):
    """The same total of light, equal for all products and shared out by what each of them needs.

    ``products`` are in the order in which they run. ``predicted`` is how many times less divergence, or at the same
    divergence less light, the second order of the noise expects of sharing out; ``tokens`` were read to find it.
    """

    photons_per_mac: float
    products: list[LightOfProduct]
    uniform: LightScore
    shared_out: LightScore
    predicted: Number
    tokens: int


class Simulation(Part):
    """The whole Transformer on the calibrated bench; ``in_light`` is the part of its multiply–accumulates there.

    ``uncounted`` names products whose multiply–accumulates nobody can tell, and which are in no share; ``by_elements``
    is how many multiplications there are, for each multiply–accumulate, that are summed with no other; ``batch`` says
    how rows of a batch change each other's answer, ``remarks`` what else a reader has to know. ``clip`` is the
    percentile that full scale stands for, of weights and of attention's second operands; ``context`` the longest window
    [tokens]; ``version`` that of labctl. ``not_measured`` says of an imported bench what is taken and nobody measured,
    ``drawn`` its perplexity on one of the benches that its fit could have come from; ``encoding`` how signs became
    light, ``bits`` those of inputs, weights and outputs in light, where they were stated. ``budget`` compares equal
    light for all products with light that is shared out.
    """

    model: str
    text: str
    tokens: int
    perplexity: Perplexity
    photons_per_mac: Number
    levels: list[LightLevel] = []
    in_light: Number = None
    digital: list[DigitalShare] = []
    uncounted: list[str] = []
    by_elements: Number = None
    batch: str = ""
    remarks: list[str] = []
    seed: int | None = None
    clip: list[float] | None = None
    context: int | None = None
    version: str = ""
    encoding: str = ""
    not_measured: list[str] = []
    drawn: Number = None
    light_used: LightUsed | None = None
    bits: list[int] | None = None
    budget: LightBudget | None = None
