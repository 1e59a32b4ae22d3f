"""Models of llama2.c: one file of plain numbers, and its tokenizer beside it."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from groundwork.opening.regular import read_regular
from groundwork.opening.tensors import MOST_TENSOR_BYTES
from simulation.models.language import Language, needed_package, not_loaded

HEADER = struct.Struct("<7i")
BYTES_FROM = 3
"""The token of the byte 0; the others follow."""


def load_llama2c(path: Path) -> Language:
    """The legacy format: seven int32 (dim, ffn, layers, heads, kv heads, vocabulary, context), then float32.

    Raises
    ------
    ArtefactError
        When the file is none, or is not as long as its header says; and for a tokenizer that is missing, damaged, or
        made for another model.
    """
    raw = _read(path)
    header = HEADER.unpack_from(raw) if len(raw) >= HEADER.size else (0,) * 7
    d, ffn, layers, heads, kv, vocabulary, context = header
    if not (min(d, ffn, layers, heads, kv, context) > 0 and vocabulary and d % heads == 0 and heads % kv == 0):
        raise not_loaded(path, "not a model of llama2.c", "seven positive sizes in its header", str(header))
    tied, vocabulary = vocabulary > 0, abs(vocabulary)
    tensors = _tensors(path, raw, _shapes(d, ffn, layers, d * kv // heads, vocabulary, context, d // heads // 2, tied))
    transformers = needed_package("transformers", path)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=d, intermediate_size=ffn, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=context, rms_norm_eps=1e-5,
        rope_theta=10000.0, tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(_state(tensors, layers, heads, kv, tied))
    encode = _encoder(path, _tokenizer_of(path, vocabulary))
    return Language(path.stem, model.eval(), encode, context, vocabulary)


def _shapes(
    d: int, ffn: int, layers: int, width_kv: int, vocabulary: int, context: int, half: int, tied: bool
) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each tensor, in the order of the file."""
    return [
        ("embed_tokens", (vocabulary, d)), ("input_layernorm", (layers, d)), ("q_proj", (layers, d, d)),
        ("k_proj", (layers, width_kv, d)), ("v_proj", (layers, width_kv, d)), ("o_proj", (layers, d, d)),
        ("post_attention_layernorm", (layers, d)), ("gate_proj", (layers, ffn, d)), ("down_proj", (layers, d, ffn)),
        ("up_proj", (layers, ffn, d)), ("norm", (d,)), ("rope", (2, context, half)),
        *([] if tied else [("lm_head", (vocabulary, d))]),
    ]  # fmt: skip


def _tensors(path: Path, raw: bytes, shapes: list[tuple[str, tuple[int, ...]]]) -> dict[str, NDArray[np.float32]]:
    expected = HEADER.size + 4 * sum(math.prod(shape) for _, shape in shapes)
    if len(raw) != expected:
        raise not_loaded(path, "the model file is truncated or of another kind", f"{expected} bytes", f"{len(raw)}")
    tensors, offset = {}, HEADER.size
    for name, shape in shapes:
        count = math.prod(shape)
        tensors[name] = np.frombuffer(raw, "<f4", count, offset).reshape(shape)
        offset += 4 * count
        if not np.isfinite(tensors[name]).all():
            raise not_loaded(path, f"weights of {name} are not finite", "finite numbers", "NaN or infinite")
    return tensors


def _state(
    tensors: dict[str, NDArray[np.float32]], layers: int, heads: int, kv: int, tied: bool
) -> dict[str, torch.Tensor]:
    """Names of Hugging Face's Llama; rows of Q and K go from pairs side by side to two halves (rotary positions)."""

    def halves(weight: NDArray[np.float32], h: int) -> NDArray[np.float32]:
        return weight.reshape(h, -1, 2, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)

    state = {"model.embed_tokens.weight": tensors["embed_tokens"], "model.norm.weight": tensors["norm"]}
    state["lm_head.weight"] = tensors["embed_tokens" if tied else "lm_head"]
    for i in range(layers):
        at = f"model.layers.{i}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            state[f"{at}.{name}.weight"] = tensors[name][i]
        for name in ("gate_proj", "up_proj", "down_proj"):
            state[f"{at}.mlp.{name}.weight"] = tensors[name][i]
        for name in ("v_proj", "o_proj"):
            state[f"{at}.self_attn.{name}.weight"] = tensors[name][i]
        state[f"{at}.self_attn.q_proj.weight"] = halves(tensors["q_proj"][i], heads)
        state[f"{at}.self_attn.k_proj.weight"] = halves(tensors["k_proj"][i], kv)
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


Pieces = list[tuple[bytes, float]]
"""Texts of the tokens, and their scores."""


def _tokenizer_of(path: Path, vocabulary: int) -> Pieces:
    """The tokenizer in the same folder that has as many pieces as the model has tokens."""
    beside = sorted(p for p in path.parent.glob("tok*.bin") if p != path)
    if not beside:
        raise not_loaded(path, "its tokenizer is missing", "tok*.bin in the same folder", "none")
    sizes = {}
    for candidate in beside:
        pieces, is_whole = _pieces(_read(candidate))
        if is_whole and len(pieces) == vocabulary:
            return pieces
        sizes[candidate.name] = f"{len(pieces)} pieces" + ("" if is_whole else " and a damaged rest")
    seen = ", ".join(f"{name}: {size}" for name, size in sizes.items())
    if all("damaged" in size for size in sizes.values()):
        raise not_loaded(path, "the tokenizer is truncated or damaged", f"{vocabulary} pieces", seen)
    raise not_loaded(path, "the tokenizer does not fit the model", f"{vocabulary} pieces", seen)


def _pieces(raw: bytes) -> tuple[Pieces, bool]:
    """All pieces of a tokenizer file, and whether it ends with the last of them."""
    pieces: Pieces = []
    offset = 4
    while offset + 8 <= len(raw):
        score, length = struct.unpack_from("<fi", raw, offset)
        piece = raw[offset + 8 : offset + 8 + length]
        if length < 0 or len(piece) != length or not math.isfinite(score):
            return pieces, False
        pieces.append((piece, score))
        offset += 8 + length
    return pieces, offset == len(raw)


def _encoder(path: Path, table: Pieces) -> Callable[[str], list[int]]:
    """Characters first, unknown ones as bytes; then the best-scored neighbours merge, one by one."""
    pieces, scores = [piece for piece, _ in table], [score for _, score in table]
    ids = {piece: i for i, piece in reversed(list(enumerate(pieces)))}

    def encode_word(text: str) -> list[int]:
        tokens: list[int] = []
        for character in text:
            piece = character.encode()
            tokens += [ids[piece]] if piece in ids else [byte + BYTES_FROM for byte in piece]
        if max(tokens, default=0) >= len(pieces):
            raise not_loaded(path, "the tokenizer has no token for a letter of the text", "its bytes", repr(text[:40]))
        while True:
            merged = [(i, ids.get(pieces[a] + pieces[b])) for i, (a, b) in enumerate(pairwise(tokens))]
            known = [(scores[token], -i, token) for i, token in merged if token is not None]
            if not known:
                return tokens
            _, place, token = max(known)
            tokens[-place : 2 - place] = [token]

    def encode(text: str) -> list[int]:
        """Line by line: a merge does not cross a line's end, and the search stays short."""
        lines = (" " + text).splitlines(keepends=True)
        return [token for line in lines for token in encode_word(line)]

    return encode


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MOST_TENSOR_BYTES)
    except OSError as error:
        raise not_loaded(path, "the file cannot be read", "a file", str(error)) from error
