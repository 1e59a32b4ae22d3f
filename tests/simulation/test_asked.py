"""What is asked of `opticalize`: a bench by its name or file, layers by patterns, light as a number; and its report."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sim_bench import calibrated, loud
from torch import nn

from calibration.errors import ArtefactError, OutOfDomain
from calibration.machine.artefact import save
from simulation.conversion.optical import (
    load_optical_state,
    optical_report,
    optical_state,
    opticalize,
    reseed,
    set_light,
)
from simulation.conversion.quantise import quantise_int8
from simulation.conversion.ranges import Ranges, observe
from simulation.conversion.report import BY_ELEMENTS, COLUMNS, OpticalReport
from simulation.light.accounting import Tally
from simulation.light.optics import Optics
from simulation.models.gpt import GPT


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an archive of one calibration."""
    (tmp_path / "runs" / "calibrations").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABCTL_RUNS", raising=False)
    full, _ = save(calibrated(loud()), tmp_path / "runs" / "calibrations")
    return full


def answer(calibration: Any) -> torch.Tensor:
    model = nn.Sequential(nn.Linear(8, 8))
    with torch.no_grad():
        model[0].weight.copy_(torch.linspace(-1, 1, 64).view(8, 8))
        model[0].bias.zero_()
        return opticalize(model, calibration)(torch.linspace(-1, 1, 16).view(2, 8))


def test_a_calibration_goes_by_object_path_text_and_id(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer(calibrated(loud()))
    identity = archive.name.removesuffix(".calib.h5")
    names = [archive, str(archive), identity, identity[:9], identity.partition("-")[2][:5]]
    names.append(archive.with_name(f"{identity}.calib.safetensors"))
    for name in names:
        assert torch.equal(answer(name), expected), name
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ArtefactError):
        answer(identity)
    monkeypatch.setenv("LABCTL_RUNS", str(tmp_path / "runs"))
    assert torch.equal(answer(identity), expected)


@pytest.mark.parametrize("name", ["papr", "", "cal-ffffffffffff", "none.calib.h5", Path("nowhere")])
def test_an_unknown_bench_is_refused_with_what_there_is(name: str | Path, archive: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        answer(name)
    assert "paper" in caught.value.expected
    assert archive.name.removesuffix(".calib.h5") in caught.value.seen
    assert caught.value.hint


@pytest.mark.parametrize("level", [0, 0.0, -1.0, math.nan, math.inf, "100", True, [3.0], np.float64("nan")])
def test_nonsense_light_is_refused(level: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    for stated in (level, {"0": level}):
        with pytest.raises(OutOfDomain, match="positive number") as caught:
            opticalize(model, "paper", photons_per_mac=stated)
        assert caught.value.seen == repr(level)


@pytest.mark.parametrize("level", [3, 0.5, np.float32(2.0), np.int64(4)])
def test_any_positive_number_is_a_light_level(level: Any) -> None:
    opticalize(nn.Sequential(nn.Linear(8, 8)), "paper", photons_per_mac=level)(torch.ones(1, 8))


@pytest.mark.parametrize(
    ("keep", "stays"),
    [
        ("blocks.0.ffn.up", {"blocks.0.ffn.up"}),
        ("blocks.1.ffn", {"blocks.1.ffn.up", "blocks.1.ffn.down"}),
        (["*.qk"], {f"blocks.{i}.attention.qk" for i in range(3)}),
        (("blocks.1.ffn.*", "blocks.2.ffn.down"), {"blocks.1.ffn.up", "blocks.1.ffn.down", "blocks.2.ffn.down"}),
    ],
)
def test_what_is_kept_stays_digital(model: GPT, keep: Any, stays: set[str]) -> None:
    found = optical_report(opticalize(model, "paper", keep=keep))
    assert {name for name, why in found.digital.items() if why == "kept by request"} == stays


@pytest.mark.parametrize(
    "keep", ["lm_head", ["blocks.0.ffn.upp"], ("block.*",), [""], [3], "blocks.0.ffn.up.weight", "blocks.0.ffn.up.bias"]
)
def test_a_pattern_that_names_nothing_is_refused_with_names_near_it(model: GPT, keep: Any) -> None:
    with pytest.raises(OutOfDomain, match="nothing in the model") as caught:
        opticalize(model, "paper", keep=keep)
    assert re.search(r"as \w+", caught.value.expected)
    assert "blocks.0.ffn.up," in caught.value.expected or keep != ["blocks.0.ffn.upp"]


def test_a_block_that_is_kept_stays_digital_when_it_runs() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), nn.Linear(8, 3))
    optical = opticalize(model, "ideal", photons_per_mac=1.0, keep="0")
    optical(torch.randn(5, 8))
    report = optical_report(optical)
    assert report.share == pytest.approx(8 * 3 / (8 * 3 + 2 * 8 * 8))
    assert {name: report.digital[name] for name in ("0.0", "0.2")} == dict.fromkeys(("0.0", "0.2"), "kept by request")


class Attends(nn.Module):
    """Two products of its own, which have no modules."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ x.mT).softmax(-1) @ self.value(x)


@pytest.mark.parametrize("keep", ["0.product1", "*.product2", "*product*"])
def test_products_that_are_found_later_can_be_kept(keep: str) -> None:
    optical = opticalize(nn.Sequential(Attends()), "paper", keep=keep)
    optical(torch.rand(2, 5, 8))
    found = optical_report(optical)
    kept = {name for name, why in found.digital.items() if why == "kept by request"}
    assert kept
    assert kept.isdisjoint(found.optical)


class Mixes(nn.Module):
    """Multiplies by a buffer, and by a tensor that is neither that nor a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.rand(8, 8))
        self.other, self.weight = torch.rand(8, 8), nn.Parameter(torch.rand(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.table @ self.other @ self.weight


@pytest.mark.parametrize("name", ["0.table", "0.other", "0"])
def test_matrices_that_are_no_parameters_are_asked_for_by_their_names(name: str) -> None:
    model, x = nn.Sequential(Mixes()), torch.rand(2, 8)
    optical = opticalize(model, "ideal", photons_per_mac={"*": 3.0, name: 20.0}, ranges={name: Ranges(1.0, 1.0)})
    optical(x)
    assert optical_report(optical).layers[name].photons_per_mac == pytest.approx(20.0, rel=0.01)
    kept = opticalize(model, "ideal", keep=name if "." in name else "*")
    kept(x)
    assert name in optical_report(kept).digital


RANGE = Ranges(1.0, 1.0)


@pytest.mark.parametrize(
    "ranges",
    [
        "0", 3, RANGE, {"0": None}, {"0": (1.0, 1.0)}, {"0": Ranges(0.0, 1.0)}, {"0": Ranges(math.nan, 1.0)},
        {"0": Ranges(1.0, math.inf)}, {"0": Ranges(1.0, -1.0)}, {"0": replace(RANGE, steps=0)},
        {"0": replace(RANGE, steps=2.5)}, {"0": replace(RANGE, tile=-1)}, {"1": RANGE}, {0: RANGE},
    ],
)  # fmt: skip
def test_nonsense_ranges_and_those_of_another_model_are_refused(ranges: Any) -> None:
    with pytest.raises(OutOfDomain, match="range"):
        opticalize(nn.Sequential(nn.Linear(8, 8)), "ideal", ranges=ranges)


@pytest.mark.parametrize("state", [None, {"0": (1, 2)}, {"0": (1, 2, -3)}, {"0": ("a", 2, 3)}, {"0": (1 << 40, 2, 3)},
                                   {"0": (1, 2, 0.5)}, {"0": (1, 2, 3), "1": (1, 2, 3)}, {}])  # fmt: skip
def test_what_is_no_state_of_this_models_noise_is_refused(state: Any) -> None:
    optical = opticalize(nn.Sequential(nn.Linear(8, 8)), "ideal", photons_per_mac=3.0)
    before = optical_state(optical)
    with pytest.raises(OutOfDomain, match="state"):
        load_optical_state(optical, state)
    assert optical_state(optical) == before


def test_what_is_of_another_model_is_refused_in_one_way_with_the_nearest_name(model: GPT) -> None:
    optical, name = opticalize(model, "ideal", photons_per_mac=3.0), "blocks.0.ffn.upp"
    state = {**optical_state(optical), **{name: (1, 2, 3)}}
    for what, ask in (
        ("light is", lambda: opticalize(model, "ideal", photons_per_mac={name: 3.0})),
        ("ranges are", lambda: opticalize(model, "ideal", ranges={name: RANGE})),
        ("state is", lambda: load_optical_state(optical, state)),
        ("state is", lambda: load_optical_state(optical, {})),
    ):
        with pytest.raises(OutOfDomain, match=f"^the {what} of another model") as caught:
            ask()
        error = caught.value
        assert (error.device, bool(error.expected), bool(error.hint)) == ("GPT", True, True)
        assert error.seen == name if "names" in error.expected else error.seen == "no names at all"
        assert "did you mean blocks.0.ffn.up?" in error.hint or error.seen != name


def test_report_is_a_table_of_layers_shares_photons_and_reasons(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    optical = opticalize(model, "paper", photons_per_mac=20.0, keep="blocks.0.ffn.up")
    assert "nothing has run yet" in repr(optical_report(optical))
    optical(torch.randint(300, (2, 17), generator=torch.Generator().manual_seed(3)))
    found = optical_report(optical)
    table = {row[0]: row for row in found.rows}
    shares = [row[1].rstrip(" %") for row in found.rows if row[-1] != BY_ELEMENTS]
    assert sum(float(share or 0) for share in shares) == pytest.approx(100, abs=0.2)
    up, kept = table["blocks.1.ffn.up"], table["blocks.0.ffn.up"]
    assert up[1] == kept[1]
    assert float(up[3]) == pytest.approx(20, rel=0.01)
    assert kept[2:] == ("", "", "kept by request")
    monkeypatch.setenv("COLUMNS", "200")
    printed = str(found)
    assert printed.splitlines()[0].split("  ")[0] == COLUMNS[0]
    assert len(printed.splitlines()) == 1 + len(found.rows) + 1
    assert f"{100 * found.share:.4g} % of" in printed


@pytest.mark.parametrize(("columns", "most"), [("", 100), ("72", 72), ("200", 200), ("10", 60)])
def test_report_is_no_wider_than_the_terminal_and_loses_nothing(
    columns: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    name = "a_part_with_a_long_name.and_another_one_below.mlp_with_experts.up_projection"
    why = "its operands are no matrices that a bench could show, and its own forward does more than one product"
    tally = Tally(products=5, macs=10**6, photons=1e9)
    found = OpticalReport((name,), {"norm": why, f"{name}.bias": "normalisation"}, {}, (), {name: tally}, tally)
    printed = str(found).splitlines()
    assert max(map(len, printed)) <= most
    words = " ".join(printed)
    for word in (*" ".join(COLUMNS).split(), *why.split(), "100.00", "1e+09", "up_projection", "normalisation"):
        assert word in words


def test_report_in_a_notebook_escapes_names_and_holds_every_row() -> None:
    model = nn.Sequential()
    model.add_module("<b>", nn.Linear(8, 8))
    optical = opticalize(model, "ideal")
    optical(torch.rand(2, 8))
    shown = optical_report(optical)._repr_html_()
    assert "<td>&lt;b&gt;</td>" in shown
    assert shown.count("<tr>") == 2
    assert "no shot noise" in shown


def test_a_layer_that_never_ran_says_so() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    optical = opticalize(Half(), "ideal")
    optical(torch.rand(2, 8))
    rows = {row[0]: row for row in optical_report(optical).rows}
    assert (rows["used"][-1], rows["unused"][-1]) == ("", "has not run")


def test_ranges_are_observed_of_every_product_that_goes_into_light() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, vocab_size=50
    )
    model = transformers.LlamaForCausalLM(config).eval()
    tokens = torch.arange(12)[None]
    ranges = observe(model, [tokens])
    optical = opticalize(model, "ideal", ranges=ranges)
    with torch.no_grad():
        optical(tokens)
        hidden = model.model.embed_tokens(tokens)
        expected = float(model.model.layers[0].input_layernorm(hidden).abs().max())
    assert set(optical_report(optical).optical) <= ranges.keys()
    assert ranges["model.layers.0.self_attn.q_proj"].input == pytest.approx(expected)  # 192 numbers: the largest


def test_ranges_of_outputs_alone_leave_inputs_as_they_are() -> None:
    model, x = nn.Sequential(nn.Linear(8, 8)), torch.rand(4, 8)
    both, outputs = observe(model, [x])["0"], observe(model, [x], inputs=False)["0"]
    assert outputs == replace(both, input=math.inf)
    assert both.input < math.inf


@pytest.mark.parametrize(
    ("batches", "tile"), [([], 0), (iter(()), 0), ([torch.rand(2, 8)], -1), ([torch.rand(2, 8)], 1.5)]
)
def test_ranges_of_nothing_are_refused(batches: Any, tile: Any) -> None:
    with pytest.raises(OutOfDomain):
        observe(nn.Sequential(nn.Linear(8, 8)), batches, tile=tile)


@pytest.mark.parametrize("seed", ["0", 1.5, -1, True, None])
def test_a_seed_that_is_none_is_refused_wherever_it_is_given(model: GPT, seed: Any) -> None:
    optical = opticalize(model, "ideal", photons_per_mac=10.0)
    for asked in (
        lambda: opticalize(model, "ideal", seed=seed),
        lambda: opticalize(model, "ideal", device_seed=seed if seed is not None else -1),
        lambda: reseed(optical, seed),
        lambda: set_light(optical, 10.0, seed=seed),
    ):
        with pytest.raises(OutOfDomain, match="seed"):
            asked()


@pytest.mark.parametrize("model", ["gpt2", None, {"weight": torch.zeros(2, 2)}])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(OutOfDomain, match="model of torch"):
        opticalize(model, "ideal")


@pytest.mark.parametrize("source", [None, 3, ["paper"]])
def test_what_is_no_bench_at_all_is_named_by_its_type(source: object) -> None:
    with pytest.raises(OutOfDomain, match="nothing of this kind describes a bench") as caught:
        opticalize(nn.Linear(4, 4), source)  # type: ignore[arg-type]
    assert caught.value.seen.startswith(type(source).__name__)


@pytest.mark.parametrize(
    "change",
    [
        {"read_e": -1.0},
        {"flicker": math.nan},
        {"drift": math.inf},
        {"spread": (0.0, -0.1)},
        {"spread": (0.0, math.nan)},
        {"quantum_efficiency": 0.0},
        {"detectors": 0},
        {"clip": (0.0, 98.0)},
        {"clip": (99.0, 200.0)},
    ],
)
def test_a_bench_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OutOfDomain, match="no bench can be so") as caught:
        replace(Optics.of(calibrated(loud())), **change)
    assert caught.value.expected.startswith(next(iter(change)))


@pytest.mark.parametrize("encoding", ["", 3, "sign"])
def test_what_is_no_encoding_is_refused(model: GPT, encoding: Any) -> None:
    with pytest.raises(OutOfDomain, match="no such encoding"):
        opticalize(model, "ideal", encoding=encoding)


@pytest.mark.parametrize("asked", [{"keep": "nope"}, {"keep": ["nope"]}, {"clip": (0.0, 0.0)}, {"clip": (200.0, 98.0)}])
def test_eight_bits_of_nothing_are_refused(model: GPT, asked: dict[str, Any]) -> None:
    with pytest.raises(OutOfDomain):
        quantise_int8(model, **asked)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch makes its own with it
def test_forward_derivatives_of_light_are_refused_and_those_backward_are_exact(model: GPT) -> None:
    linear = nn.Sequential(nn.Linear(6, 4))
    optical, x = opticalize(linear, "paper", photons_per_mac=5.0), torch.randn(3, 6)
    with pytest.raises(OutOfDomain, match="forward derivatives"):
        torch.func.jvp(optical, (x,), (torch.ones_like(x),))
    _, back = torch.func.vjp(optical, x)
    torch.testing.assert_close(back(torch.ones(3, 4))[0], torch.ones(3, 4) @ linear[0].weight)
    assert optical(x).shape == (3, 4)  # and goes on
