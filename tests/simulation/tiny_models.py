"""Tiny random language models in the formats that people have."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace


def tokenizer(words: int) -> Any:
    """w0, w1 … and one for whatever is unknown."""
    import transformers

    table = {f"w{i}": i for i in range(words - 1)} | {"?": words - 1}
    made = Tokenizer(WordLevel(table, unk_token="?"))
    made.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?")


def llama(tied: bool = False, width: int = 16) -> Any:
    """Two random blocks."""
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=width, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24,
        vocab_size=50, tie_word_embeddings=tied,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


Shape = tuple[int, ...]


def gguf_file(
    path: Path,
    change: Callable[[dict[str, Shape]], object] = dict,
    words: int = 258,
    rope_factors: Sequence[float] = (),
    **numbers: int,
) -> Path:
    """A random Llama of two blocks; ``change`` takes the shapes by name, ``numbers`` are put into the header."""
    import gguf

    d, ffn, vocabulary = 16, 24, 258
    shapes: dict[str, Shape] = {"token_embd.weight": (vocabulary, d), "output_norm.weight": (d,)}
    for i in range(2):
        shapes |= {f"blk.{i}.{name}.weight": (d,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{i}.{name}.weight": (d, d) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"blk.{i}.{name}.weight": (ffn, d) for name in ("ffn_gate", "ffn_up")}
        shapes |= {f"blk.{i}.ffn_down.weight": (d, ffn)}
    change(shapes)
    writer = gguf.GGUFWriter(path, "llama")
    sizes = {"context_length": 32, "embedding_length": d, "block_count": 2, "feed_forward_length": ffn,
             "attention.head_count": 4, "attention.head_count_kv": 4, "rope.dimension_count": 4,
             "vocab_size": vocabulary}  # fmt: skip
    for key, value in sizes.items():
        writer.add_uint32(f"llama.{key}", value)
    for key, value in numbers.items():
        writer.add_uint16(key.replace("_", ".", 1), value)
    writer.add_layer_norm_rms_eps(1e-5)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [*map(chr, plain), *(chr(256 + i) for i in range(256 - len(plain)))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*letters, "th", *(f"z{i}" for i in range(words - 258)), "<e>"])
    writer.add_token_types([1] * (words - 1) + [3])
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(words - 1)
    rng = np.random.default_rng(5)
    for name, shape in shapes.items():
        writer.add_tensor(name, (0.1 * rng.normal(size=shape)).astype(np.float32))
    if rope_factors:
        writer.add_tensor("rope_freqs.weight", np.array(rope_factors, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def llama2c(folder: Path, **pieces: int) -> Path:
    """A random model of 40 tokens, and tokenizers of so many pieces by their names."""
    d, ffn, layers, heads, vocabulary, context = 8, 12, 1, 2, 40, 16
    count = vocabulary * d + 2 * layers * d + 4 * layers * d * d + 3 * layers * ffn * d + d + context * (d // heads)
    values = 0.1 * np.random.default_rng(0).normal(size=count)
    header = struct.pack("<7i", d, ffn, layers, heads, heads, vocabulary, context)
    (folder / "tiny.bin").write_bytes(header + values.astype("<f4").tobytes())
    for name, number in pieces.items():
        table = b"".join(struct.pack("<fi", float(-i), 3) + f"{i:03}".encode() for i in range(number))
        (folder / f"{name}.bin").write_bytes(struct.pack("<i", 2) + table)
    return folder / "tiny.bin"
