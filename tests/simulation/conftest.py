"""A tiny model with random weights, and a tokenizer, for the tests of the Transformer."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from simulation.models.gpt import GPT, GPTConfig
from simulation.models.text import train_tokenizer

SENTENCE = "The light is cheap and the answer is noisy; the bench says how noisy. "


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny models are quicker so, and much quicker when something else runs beside the tests."""
    torch.set_num_threads(1)


@pytest.fixture
def model() -> GPT:
    config = GPTConfig(vocabulary=300, context=64, width=32, blocks=3, heads=4)
    return GPT(config, torch.Generator().manual_seed(1)).eval()


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer([SENTENCE * 20], 300)


@pytest.fixture
def sequences() -> list[list[int]]:
    tokens = torch.randint(300, (5, 64), generator=torch.Generator().manual_seed(2))
    return [row.tolist() for row in tokens]
