"""Blocks with a state counted by hand, number by number, and their matrices by other people's code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from calibration.errors import OutOfDomain
from labctl.errors import UsageError
from labctl.studies.serving import Conversation
from labctl.studies.traced import known_shapes, of_decoder, operations_for
from simulation.energy.constants import load_components
from simulation.energy.decoders import Decoder
from simulation.energy.machine import Machine, PhotonLaw
from simulation.energy.pricing import price_digital, price_optical
from simulation.energy.recurrent import Recurrent

SCAN = Recurrent("scan", blocks=2, inner=24, state=5, kernel=4, rank=3)
DELTA = Recurrent("delta", blocks=2, inner=4 * 6, state=7, kernel=4, keys=2 * 7, heads=4)
ATTENDING = Decoder("attending", "a test", 100, 64, 12, 1, 2, kv_heads=1, feed_forward=20)
HYBRID = replace(ATTENDING, name="hybrid", blocks=3, recurrent=SCAN)
DELTAS = replace(ATTENDING, name="deltas", blocks=3, recurrent=DELTA)
MAMBA = Decoder("mamba", "a test", 100, 64, 12, 2, 0, positions=False, recurrent=SCAN, bare=2)


def scan_by_hand(tokens: int) -> tuple[int, int]:
    """One block of SCAN: multiply–accumulates of matrices, and operations on single numbers."""
    macs = ops = 0
    for _ in range(tokens):
        macs += 12 * 2 * 24  # x and the gate
        macs += 24 * (3 + 5 + 5)  # Δ, B, C
        macs += 3 * 24  # Δ of each channel
        macs += 24 * 12
        for _ in range(24):
            ops += 4 * 2  # taps
            ops += 3  # two activations, and softplus
            ops += 1  # Δ x
            for _ in range(5):
                ops += 2  # exp(Δ A)
                ops += 3  # a h + B (Δ x)
                ops += 2  # Σ C h
            ops += 2 + 1  # D x, added; the gate
    return macs, ops


def delta_by_hand(tokens: int) -> tuple[int, int]:
    """One block of DELTA: four heads of values 6 wide, two of keys 7 wide."""
    macs = ops = 0
    for _ in range(tokens):
        macs += 12 * (14 + 14 + 24 + 24)  # q, k, v, and the gate of the result
        macs += 12 * (4 + 4)  # β and the decay
        macs += 24 * 12
        ops += (14 + 14 + 24) * (4 * 2 + 1)  # taps and activations
        ops += 4 + 4  # sigmoid of β, softplus of the decay
        ops += 8 * (14 + 14)  # norms of q and k
        for _ in range(4):
            for _ in range(6):
                ops += 7 * 2 + 1 + 1  # Sᵀk, v less it, β
                ops += 7 * 3  # decayed, and k times it added
                ops += 7 * 2  # Sᵀq
                ops += 8 + 1 + 1  # norm, silu of the gate, gate
    return macs, ops


def recurrent_part(decoder: Decoder, operations: Any) -> tuple[int, float]:
    """Of the recurrent layers: multiply–accumulates, operations."""
    bill = price_digital(operations, load_components(COMPONENTS, "today"), "digital.mac")
    macs = sum(p.macs for p in operations.products if ".recurrent" in p.layer)
    ops = sum(row.amount for row in bill.rows if ".recurrent" in row.layer and str(row.unit) == "op")
    return macs, ops


COMPONENTS = Path(__file__).parents[2] / "data" / "energy" / "components.toml"


@pytest.mark.parametrize(("decoder", "by_hand"), [(HYBRID, scan_by_hand), (DELTAS, delta_by_hand)])
@pytest.mark.parametrize(("sequences", "new"), [(1, 1), (3, 1), (2, 9)])
def test_recurrent_blocks_count_as_by_hand(decoder, by_hand, sequences, new):
    found = decoder.step(sequences, 11) if new == 1 else decoder.prompt(sequences, new)
    macs, ops = by_hand(sequences * new)
    assert recurrent_part(decoder, found) == (2 * macs, 2 * ops)
    alone = ATTENDING.step(sequences, 11) if new == 1 else ATTENDING.prompt(sequences, new)
    ffn = sequences * new * 3 * 12 * 20
    assert found.macs == alone.macs + 2 * (macs + ffn)
    assert found.cache_read == alone.cache_read
    assert found.cache_written == alone.cache_written


def test_state_is_read_and_written_whole_whatever_the_length():
    for length in (5, 60):
        step = HYBRID.step(3, length)
        assert step.state_read == step.state_written == 2 * 3 * (24 * 5 + 3 * 24)
        assert DELTAS.step(3, length).state_read == 2 * 3 * (4 * 6 * 7 + 3 * (14 + 14 + 24))
    assert (HYBRID.prompt(3, 5).state_read, HYBRID.prompt(3, 5).state_written) == (0, 2 * 3 * 192)
    assert HYBRID.forward(5).state_written == 0
    assert (HYBRID.kept(10), HYBRID.states) == (10 * 2 * 6, 2 * 192)


def test_states_are_in_memory_on_both_sides_wherever_the_cache_is():
    today = load_components(COMPONENTS, "today")
    step = HYBRID.step(1, 20)
    for cache in ("held", "reloaded"):
        bill = price_optical(step, Machine(PhotonLaw(1.0), cache=cache), today)
        moved = [row.amount for row in bill.rows if row.layer == "state"]
        assert moved == [16 * 2 * 192, 16 * 2 * 192]
    assert sum(row.layer == "state" for row in price_digital(step, today, "digital.mac").rows) == 2


def test_a_model_without_attention_has_none_and_a_gate_of_attention_is_a_matrix():
    step = MAMBA.step(1, 30)
    assert {p.kind for p in step.products} == {"linear"}
    assert (step.cache_read, step.cache_written) == (0, 0)
    assert step.macs == 2 * scan_by_hand(1)[0] + 12 * 100
    assert step.elementwise["blocks.*.norm", "norm"] == 2 * 12  # one before each block, and no feed-forward layer
    gated = replace(ATTENDING, gated_attention=True).step(1, 20)
    assert gated.macs - ATTENDING.step(1, 20).macs == 12 * 2 * 6


@pytest.mark.parametrize("name", ["mamba-2.8b", "jamba-v0.1", "qwen3-next-80b-a3b"])
def test_hybrid_shapes_are_priced(name):
    traced = of_decoder(known_shapes()[name]).in_conversation(Conversation(512, 256))
    today = load_components(COMPONENTS, "today")
    bill = price_optical(traced.operations, Machine(PhotonLaw(10.0), array=(1024, 1024), digital=("GPT",)), today)
    parts = bill.by(lambda row: row.component)
    assert parts["state"] > 0
    assert parts["convolution"] > 0
    assert parts["state read"] == parts["state write"] > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0}, {"inner": 0}, {"heads": 3}, {"rule": "delta"}, {"rule": "colour"}, {"state": 2.5},
    ],
)  # fmt: skip
def test_impossible_recurrent_blocks_are_refused(wrong):
    with pytest.raises(OutOfDomain, match="recurrent"):
        replace(SCAN, **wrong)


@pytest.mark.parametrize("wrong", [{"heads": 2}, {"blocks": 1}, {"bare": 3}, {"windowed": 1, "window": 4}])
def test_impossible_hybrids_are_refused(wrong):
    with pytest.raises(OutOfDomain, match="no decoder"):
        replace(MAMBA, **wrong)


class TinyMambaMixer(nn.Module):
    """By its name it has a state."""

    def forward(self, x):
        return x


def test_a_recurrence_that_would_be_watched_is_refused_by_name(monkeypatch):
    model = nn.Sequential(nn.Embedding(8, 4), TinyMambaMixer(), nn.Linear(4, 8))
    language = SimpleNamespace(model=model, name="tiny", context=8, vocabulary=8, width=4)
    monkeypatch.setattr("labctl.studies.traced.load_language", lambda name, **_: language)
    with pytest.raises(UsageError, match="a recurrence is not counted") as caught:
        operations_for("tiny", None)
    assert "TinyMambaMixer" in caught.value.seen
    assert "--shape" in caught.value.hint
    language.model = TinyMambaMixer()  # the whole model has no name in itself
    with pytest.raises(UsageError) as caught:
        operations_for("tiny", None)
    assert caught.value.seen == "the model (TinyMambaMixer)"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mamba", "jamba", "qwen3_next"])
def test_matrices_are_those_of_another_library(kind):
    """Parameters of all matrices but embeddings, head, and what the tables leave out."""
    transformers = pytest.importorskip("transformers")
    scan = {"state_size": 5, "time_step_rank": 3, "expand": 2, "conv_kernel": 4}
    common = {"vocab_size": 64, "hidden_size": 12}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 20}
    if kind == "mamba":
        model = transformers.MambaForCausalLM(
            transformers.MambaConfig(num_hidden_layers=2, intermediate_size=24, **scan, **common)
        )
        ours = MAMBA
    elif kind == "jamba":
        model = transformers.JambaForCausalLM(transformers.JambaConfig(
            num_hidden_layers=3, attn_layer_period=3, attn_layer_offset=2, expert_layer_period=5, expert_layer_offset=4,
            num_experts=1, num_experts_per_tok=1, mamba_d_state=5, mamba_dt_rank=3, mamba_expand=2, mamba_d_conv=4,
            use_mamba_kernels=False, **heads, **common,
        ))  # fmt: skip
        ours = HYBRID
    else:
        model = transformers.Qwen3NextForCausalLM(transformers.Qwen3NextConfig(
            num_hidden_layers=3, head_dim=6, linear_key_head_dim=7, linear_value_head_dim=6, linear_num_key_heads=2,
            linear_num_value_heads=4, layer_types=["linear_attention", "linear_attention", "full_attention"],
            mlp_only_layers=[0, 1, 2], **heads, **common,
        ))  # fmt: skip
        ours = replace(DELTAS, gated_attention=True)
    theirs = sum(
        module.weight.numel() for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith("lm_head")
    )  # fmt: skip
    assert theirs == ours.parameters
