"""Decoding counted by hand, token by token and head by head, from sizes alone; and by other people's code."""

import inspect
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from calibration.errors import OutOfDomain
from simulation.energy.decoders import Decoder, Latent, asked, load_decoders

TABLE = Path(__file__).parents[2] / "data" / "energy" / "decoders.toml"
GROUPED = Decoder("grouped", "a test", 100, 64, 48, 3, 8, kv_heads=2, head_width=6, feed_forward=80)
ROUTED = replace(GROUPED, name="routed", experts=8, active=2, expert_width=20, shared=1, dense=1)


def attention_by_hand(d, sequences, new, length):
    """One block: each query meets every key that there is, head by head."""
    macs = 0
    for _ in range(sequences * new):
        macs += d.width * d.heads * d.head_width  # its query
        macs += 2 * d.width * d.kv_heads * d.head_width  # its key, its value
        for _ in range(d.heads):
            macs += length * d.head_width  # scores
            macs += length * d.head_width  # their mix of the values
        macs += d.heads * d.head_width * d.width
    return macs


@pytest.mark.parametrize(("sequences", "new", "cached"), [(1, 1, 10), (5, 1, 31), (2, 16, 0)])
def test_grouped_queries_count_as_by_hand(sequences, new, cached):
    d = GROUPED
    tokens = sequences * new
    expected = 3 * attention_by_hand(d, sequences, new, cached + new) + 3 * tokens * 3 * d.width * d.feed_forward
    expected += sequences * d.width * d.vocabulary  # the last token of each
    found = d.step(sequences, cached + 1) if new == 1 else d.prompt(sequences, new)
    assert found.macs == expected
    assert found.tokens == tokens


def test_shared_keys_are_written_once_for_the_queries_of_a_group():
    (scores,) = [p for p in GROUPED.step(5, 20).products if p.layer.endswith(".qk")]
    # 3 blocks, 5 sequences, 2 heads of keys; 4 queries meet the same 20 keys, of which one is new
    assert (scores.batch, scores.n, scores.k, scores.m, scores.new) == (30, 4, 6, 20, 6)
    alone = replace(GROUPED, kv_heads=8).step(5, 20)
    assert alone.cache_read == 4 * GROUPED.step(5, 20).cache_read


def test_cache_is_two_numbers_for_each_token_head_and_width():
    step = GROUPED.step(5, 20)
    assert step.cache_read == 3 * 5 * 19 * 2 * 2 * 6  # blocks, sequences, tokens, keys and values, heads, width
    assert step.cache_written == 3 * 5 * 2 * 2 * 6
    read = GROUPED.prompt(5, 19)
    assert (read.cache_read, read.cache_written) == (0, step.cache_read)
    assert GROUPED.forward(19).cache_written == 0


@pytest.mark.parametrize("sequences", [1, 3, 50])
def test_each_token_meets_its_own_experts_only(sequences):
    d = ROUTED
    one = 3 * d.width * d.expert_width
    ffn = sum(
        3 * d.width * d.feed_forward if block == 0 else d.width * d.experts + (d.active + d.shared) * one
        for block in range(3)
    )
    expected = sequences * (3 * attention_by_hand(d, 1, 1, 9) + ffn + d.width * d.vocabulary)
    assert d.step(sequences, 9).macs == expected


def test_experts_that_nobody_asks_are_idle():
    for sequences in (1, 3, 50):
        ups = [p for p in ROUTED.step(sequences, 9).products if p.layer.endswith("experts.up")]
        busy, idle = sum(p.batch for p in ups), sum(p.idle for p in ups)
        assert busy + idle == 2 * 8  # in the two blocks that have a router
        assert busy == 2 * asked(8, 2, sequences)
        assert sum(p.batch * p.n for p in ups) == 2 * 2 * sequences
        assert {p.stage for p in ups} == {sequences}
    assert (asked(8, 2, 1), asked(8, 2, 10_000)) == (2, 8)


def test_experts_that_are_asked_are_those_of_a_fair_router():
    generator = torch.Generator().manual_seed(3)
    draws = [len({int(e) for _ in range(16) for e in torch.randperm(64, generator=generator)[:8]}) for _ in range(200)]
    assert asked(64, 8, 16) == pytest.approx(sum(draws) / len(draws), abs=1)


def test_a_window_bounds_what_a_step_reads():
    d = replace(GROUPED, window=4, windowed=1)
    whole = GROUPED.step(1, 30)
    step = d.step(1, 30)
    assert whole.macs - step.macs == 2 * 8 * (30 - 4) * 6
    assert whole.cache_read - step.cache_read == (29 - 3) * 2 * 2 * 6
    assert d.step(1, 3).macs == GROUPED.step(1, 3).macs


def test_compressed_cache_counts_as_by_hand():
    latent = Latent(rank=10, rotary=2, plain=4, value=5, query_rank=7)
    d = replace(GROUPED, latent=latent)
    every = d.width * 7 + 7 * 8 * 6 + d.width * 12 + 8 * 5 * d.width  # both halves of the query, the cache, the output
    each_head = 4 * 10 + 10 * 5 + 20 * (10 + 2) + 20 * 10  # to the cache and back; scores and mix over 20 tokens
    rest = 3 * 3 * d.width * d.feed_forward + d.width * d.vocabulary
    step = d.step(1, 20)
    assert step.macs == 3 * (every + 8 * each_head) + rest
    assert (step.cache_read, step.cache_written) == (3 * 19 * 12, 3 * 12)
    expanded = 10 * (4 + 5) + 19 * (4 + 2) + 19 * 5
    assert d.prompt(1, 19).macs == 3 * 19 * (every + 8 * expanded) + 3 * 19 * 3 * d.width * d.feed_forward + (
        d.width * d.vocabulary
    )


@pytest.mark.slow
def test_steps_and_macs_are_those_of_another_library():
    transformers = pytest.importorskip("transformers")
    d = GROUPED
    config = transformers.LlamaConfig(
        vocab_size=d.vocabulary, hidden_size=d.width, num_hidden_layers=d.blocks, num_attention_heads=d.heads,
        num_key_value_heads=d.kv_heads, head_dim=d.head_width, intermediate_size=d.feed_forward,
        attn_implementation="eager",
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        first = model(torch.zeros(2, 12, dtype=torch.long), use_cache=True)
        name = "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"
        cache = getattr(first, name, None) or first.past_key_values
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(2, 1, dtype=torch.long), use_cache=True, **{name: cache})
    angles = 2 * d.head_width // 2  # of the rotations of two sequences, a product there
    assert counter.get_total_flops() / 2 == pytest.approx(d.step(2, 13).macs, abs=angles)
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert kept == d.step(2, 13).cache_read + d.step(2, 13).cache_written


TIED = "smollm2-135m", "mamba-2.8b"
"""Whose head is the table of embeddings."""
PUBLISHED = {  # billions of parameters, all and those that a token meets, as their authors print them
    "llama-2-7b": (6.74, None),
    "mistral-7b": (7.24, None),
    "mixtral-8x7b": (46.7, 12.9),
    "llama-3.1-8b": (8.03, None),
    "llama-3.1-70b": (70.6, None),
    "llama-3.1-405b": (405.0, None),
    "olmoe-1b-7b": (6.92, 1.28),
    "deepseek-v3": (671.0, 37.0),
    "smollm2-135m": (0.135, None),
    "qwen3-30b-a3b": (30.5, 3.3),
    "qwen3-235b-a22b": (235.0, 22.0),
    "kimi-k2": (1040.0, 32.0),
    "gpt-oss-120b": (116.8, 5.13),
    "mamba-2.8b": (2.77, None),
    "jamba-v0.1": (51.6, 12.0),
    "qwen3-next-80b-a3b": (79.7, None),
}


def test_shapes_have_the_parameters_that_their_authors_print():
    shapes = load_decoders(TABLE)
    assert set(PUBLISHED) <= set(shapes)
    for name, (total, active) in PUBLISHED.items():
        d = shapes[name]
        table = d.vocabulary * d.width
        all_of_them = d.parameters + (table if name in TIED else 2 * table)
        assert all_of_them / 1e9 == pytest.approx(total, rel=0.015), name
        if active is not None:
            met = sum(p.batch * p.k * p.m for p in d.step(1, 2).products if p.kind == "linear")
            assert met / 1e9 == pytest.approx(active, rel=0.01) or (met + table) / 1e9 == pytest.approx(
                active, rel=0.02
            ), name


def test_every_shape_has_a_source_and_a_year():
    for name, d in load_decoders(TABLE).items():
        assert any(f"({year})" in d.source for year in range(2023, 2027)), name


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("heads = 8\nkv_heads = 3", "shape"),
        ("heads = 8\nexperts = 4", "shape"),
        ("heads = 8\nwindow = 4", "shape"),
        ("heads = 8\ncolour = 3", "shape"),
        ("heads = -8", "shape"),
    ],
)
def test_impossible_shapes_are_refused(tmp_path, entry, what):
    path = tmp_path / "decoders.toml"
    path.write_text(f'[a]\nvocabulary = 10\ncontext = 8\nwidth = 48\nblocks = 2\nsource = "x"\n{entry}\n')
    with pytest.raises(OutOfDomain, match=what):
        load_decoders(path)
    path.write_text("[a]\nheads = 3\n")
    with pytest.raises(OutOfDomain, match="source"):
        load_decoders(path)


def test_a_pass_of_no_tokens_is_refused():
    with pytest.raises(OutOfDomain, match="no tokens"):
        GROUPED.step(0, 5)
    assert Counter(p.kind for p in GROUPED.step(1, 1).products)["attention"] == 2
