"""Random numbers as tensors against the compiled ones, word by word."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from groundwork.compiled import kernel
from groundwork.random_numbers import threefry
from simulation.light import randomness as compiled
from simulation.light.tensors.randomness import normals, poisson, words

KEY = np.array([0xDEADBEEF, 0x12345678], np.uint32)
FIRST, STREAM = 0xFFFFFFF0, 0x80000005  # the counter passes through zero, and the second word has its highest bit


@kernel
def one_by_one(k0, k1, first, stream, found, deviates, means, counts):
    for i in range(len(found)):
        a, b = threefry(k0, k1, np.uint32(first + np.uint32(i)), stream)
        found[i, 0], found[i, 1] = a, b
        counts[i] = compiled.poisson(means[i], a)
    compiled.fill_normal(deviates, k0, k1, first, stream)


def signed(value: int) -> torch.Tensor:
    return torch.tensor([[np.uint32(value).astype(np.int32)]], dtype=torch.int32)


@pytest.fixture(scope="module")
def drawn():
    size = 4096
    found, deviates, counts = np.empty((size, 2), np.uint32), np.empty(size, np.float32), np.empty(size)
    means = np.geomspace(1e-3, 40, size)
    one_by_one(*KEY, np.uint32(FIRST), np.uint32(STREAM), found, deviates, means, counts)
    return found, deviates, means, counts


def test_words_are_equal_bit_for_bit(drawn) -> None:
    number = torch.arange(4096, dtype=torch.int32)[None]
    a, b = words(torch.from_numpy(KEY.view(np.int32)), signed(FIRST) + number, signed(STREAM))
    both = torch.stack([a[0], b[0]], 1).numpy().view(np.uint32)
    assert np.array_equal(both, drawn[0])


def test_deviates_are_equal_to_rounding_and_normal(drawn) -> None:
    found = normals(torch.from_numpy(KEY.view(np.int32)), signed(FIRST), signed(STREAM), 4096)[0].numpy()
    # angles of float32 are within 2e-7 of a turn, times radii up to 6.7
    np.testing.assert_allclose(found, drawn[1], atol=4e-6)
    odd = normals(torch.from_numpy(KEY.view(np.int32)), signed(FIRST), signed(STREAM), 4095)[0].numpy()
    assert np.array_equal(odd, found[:4095])


def test_counts_are_equal(drawn) -> None:
    word = torch.from_numpy(drawn[0][:, 0].astype(np.uint32).view(np.int32).copy())
    assert np.array_equal(poisson(torch.from_numpy(drawn[2]), word).numpy(), drawn[3])


def test_no_global_generator_is_touched() -> None:
    before = torch.random.get_rng_state()
    normals(torch.from_numpy(KEY.view(np.int32)), signed(0), signed(0), 100)
    assert torch.equal(before, torch.random.get_rng_state())
