"""Language models from where people have them: our checkpoints, a folder, a GGUF file, llama2.c, a hub name.

Nothing that is loaded runs code of its own: no pickle, no remote code. Hugging Face's library is needed for all but our
own checkpoints: ``pip install "labctl[hf]"``.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calibration.errors import ArtefactError
from groundwork.opening.regular import read_regular, require_regular
from groundwork.opening.tensors import MOST_TENSOR_BYTES
from simulation.models.checkpoint import Checkpoint, load_checkpoint
from simulation.models.soundness import require_as_large, require_sound_folder, require_sound_gguf

CONTEXT_MAX = 1024
HUB_TIMEOUT_S = "10"
LLAMA2C_HEADER = struct.Struct("<7i")


@dataclass(frozen=True)
class Language:
    """A language model, ready to be scored.

    Attributes
    ----------
    name
        What it goes by in results.
    model
        (B, T) tokens to (B, T, V) logits, or to an object that has them as ``logits``; float32, evaluation mode.
    encode
        Text to token ids.
    context
        Longest window [tokens].
    vocabulary
        V.
    """

    name: str
    model: nn.Module
    encode: Callable[[str], list[int]]
    context: int
    vocabulary: int


def load_language(source: str | Path) -> Language:
    """Load a model by what ``source`` is.

    Parameters
    ----------
    source
        ``*.safetensors`` of `labctl train`; a folder as Hugging Face saves it; ``*.gguf``; ``*.bin`` of llama2.c (with
        its tokenizer, ``tok*.bin``, beside it); else the name of a model on the Hugging Face hub.

    Raises
    ------
    ArtefactError
        When there is no such model, the file is damaged, holds something else, or a package is missing.

    Examples
    --------
    >>> import labctl
    >>> language = labctl.load_language(labctl.shipped_model())
    >>> language.context, len(language.encode("The light is cheap."))
    (128, 8)
    """
    path = Path(source)
    if path.is_dir():
        return _hugging_face(str(path), path.name, require_sound_folder(path), local_files_only=True)
    if path.exists() or path.suffix in (".safetensors", ".gguf", ".bin"):
        try:
            require_regular(path)
        except OSError as error:
            raise _error(str(path), "there is no such model", "a file", str(error) or "nothing there") from error
        if path.suffix == ".gguf":
            return _gguf(path)
        if path.suffix == ".bin":
            return _llama2c(path)
        return language_of(path.stem, load_checkpoint(path))
    return _hugging_face(str(source), str(source))


def language_of(name: str, checkpoint: Checkpoint) -> Language:
    """One of our own checkpoints."""
    config, tokenizer = checkpoint.model.config, checkpoint.tokenizer

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text).ids)

    return Language(name, checkpoint.model, encode, config.context, config.vocabulary)


def _hugging_face(where: str, name: str, numbers: int | None = None, **options: Any) -> Language:
    """By folder or hub name; safetensors only. Its files hold so many ``numbers``, where they are here already."""
    for variable in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        os.environ.setdefault(variable, HUB_TIMEOUT_S)
    transformers = package("transformers", where)
    transformers.utils.logging.disable_progress_bar()  # they write into our own lines
    safe = {"trust_remote_code": False, **options}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **safe)
        if numbers is not None:
            with torch.device("meta"):
                config = transformers.AutoConfig.from_pretrained(where, **safe)
                skeleton = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            require_as_large(where, skeleton, numbers)
        kind = {} if "gguf_file" in options else {"use_safetensors": True}
        model, told = transformers.AutoModelForCausalLM.from_pretrained(
            where, dtype=torch.float32, output_loading_info=True, **kind, **safe
        )
    except ArtefactError:
        raise
    except Exception as error:  # the library raises many kinds
        first = str(error).strip().splitlines()
        raise _error(
            where,
            "the model cannot be loaded",
            "a folder or GGUF file of a causal language model, or a hub name and a network",
            f"{type(error).__name__}: {first[0] if first else ''}",
        ) from error
    if lacking := sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]])):
        raise _error(
            where, "weights of the model are missing, or of another shape", "all of them", ", ".join(lacking[:5])
        )
    _require_finite(where, model)
    _require_running(where, model.eval())
    limit = int(getattr(model.config, "max_position_embeddings", CONTEXT_MAX))
    vocabulary = int(model.config.vocab_size)

    def encode(text: str) -> list[int]:
        ids = [int(i) for i in tokenizer.encode(text, add_special_tokens=False, verbose=False)]
        if text and not ids:
            raise _error(where, "the tokenizer makes nothing of a text", "tokens", f"none of {text[:40]!r}")
        if ids and not 0 <= min(ids) <= max(ids) < vocabulary:
            raise _error(where, "the tokenizer does not fit the model", f"{vocabulary} tokens", f"token {max(ids)}")
        return ids

    return Language(name, model, encode, min(limit, CONTEXT_MAX), vocabulary)


def _gguf(path: Path) -> Language:
    numbers = require_sound_gguf(path)
    package("gguf", str(path))
    return _hugging_face(str(path.parent), path.stem, numbers, gguf_file=path.name, local_files_only=True)


def _llama2c(path: Path) -> Language:
    """llama2.c's legacy format: seven int32 (dim, ffn, layers, heads, kv heads, vocabulary, context), then fp32."""
    raw = _read(path)
    header = LLAMA2C_HEADER.unpack_from(raw) if len(raw) >= LLAMA2C_HEADER.size else (0,) * 7
    d, ffn, layers, heads, kv, vocabulary, context = header
    if not (min(d, ffn, layers, heads, kv, context) > 0 and vocabulary and d % heads == 0 and heads % kv == 0):
        raise _error(str(path), "not a model of llama2.c", "seven positive sizes in its header", str(header))
    tied, vocabulary = vocabulary > 0, abs(vocabulary)
    width_kv = d * kv // heads
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("embed_tokens", (vocabulary, d)), ("input_layernorm", (layers, d)), ("q_proj", (layers, d, d)),
        ("k_proj", (layers, width_kv, d)), ("v_proj", (layers, width_kv, d)), ("o_proj", (layers, d, d)),
        ("post_attention_layernorm", (layers, d)), ("gate_proj", (layers, ffn, d)), ("down_proj", (layers, d, ffn)),
        ("up_proj", (layers, ffn, d)), ("norm", (d,)), ("rope", (2, context, d // heads // 2)),
        *([] if tied else [("lm_head", (vocabulary, d))]),
    ]  # fmt: skip
    expected = LLAMA2C_HEADER.size + 4 * sum(math.prod(shape) for _, shape in shapes)
    if len(raw) != expected:
        raise _error(str(path), "the model file is truncated or of another kind", f"{expected} bytes", f"{len(raw)}")
    tensors, offset = {}, LLAMA2C_HEADER.size
    for name, shape in shapes:
        count = math.prod(shape)
        tensors[name] = np.frombuffer(raw, "<f4", count, offset).reshape(shape)
        offset += 4 * count
        if not np.isfinite(tensors[name]).all():
            raise _error(str(path), f"weights of {name} are not finite", "finite numbers", "NaN or infinite")
    transformers = package("transformers", str(path))
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=d, intermediate_size=ffn, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=context, rms_norm_eps=1e-5,
        rope_theta=10000.0, tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(_llama_state(tensors, layers, heads, kv, tied), strict=False)
    return Language(path.stem, model.eval(), _llama2c_encoder(*llama2c_pieces(path, vocabulary)), context, vocabulary)


def _llama_state(
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


def _beside(path: Path) -> Path:
    found = sorted(p for p in path.parent.glob("tok*.bin") if p != path)
    if not found:
        raise _error(str(path), "its tokenizer is missing", "tok*.bin in the same folder", "none")
    return found[0]


def llama2c_pieces(path: Path, vocabulary: int) -> tuple[list[bytes], list[float]]:
    """Pieces and scores of the tokenizer beside a model of llama2.c."""
    path = _beside(path)
    raw = _read(path)
    pieces: list[bytes] = []
    scores: list[float] = []
    offset = 4
    try:
        for _ in range(vocabulary):
            score, length = struct.unpack_from("<fi", raw, offset)
            piece = raw[offset + 8 : offset + 8 + length]
            if length < 0 or len(piece) != length or not math.isfinite(score):
                raise struct.error("piece beyond the end, or a score that is no number")
            pieces.append(piece)
            scores.append(score)
            offset += 8 + length
    except struct.error as error:
        raise _error(
            str(path), "the tokenizer is truncated or damaged", f"{vocabulary} pieces", f"{len(pieces)}"
        ) from error
    return pieces, scores


def _llama2c_encoder(pieces: list[bytes], scores: list[float]) -> Callable[[str], list[int]]:
    """Its tokenizer: characters first, unknown ones as bytes; then the best-scored neighbours merge, one by one."""
    ids = {piece: i for i, piece in reversed(list(enumerate(pieces)))}

    def encode_word(text: str) -> list[int]:
        tokens: list[int] = []
        for character in text:
            piece = character.encode()
            tokens += [ids[piece]] if piece in ids else [byte + 3 for byte in piece]
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
        raise _error(str(path), "the file cannot be read", "a file", str(error)) from error


def _require_finite(where: str, model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise _error(where, f"weights of {name} are not finite", "finite numbers", "NaN or infinite")


def _require_running(where: str, model: nn.Module) -> None:
    """One token goes through: a model whose sizes do not belong together is found here, and not in a measurement."""
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, 1, dtype=torch.long)).logits
    except Exception as error:  # whatever its sizes lead to
        raise _error(where, "the model cannot be run", "one token in, its logits out", str(error)[:300]) from error
    if not bool(logits.isfinite().all()):
        raise _error(where, "the model answers with what is no number", "finite logits", "NaN or infinite")


def package(name: str, where: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ArtefactError(
            f"the package {name} is needed for this model",
            device=where,
            action="load a model",
            expected=f"{name}",
            seen="not installed",
            hint='python -m pip install "labctl[hf]"',
        ) from error


def _error(where: str, what: str, expected: str, seen: str) -> ArtefactError:
    return ArtefactError(
        what,
        device=where,
        action="load a model",
        expected=expected,
        seen=seen,
        hint="labctl simulate CALIB MODEL, with a checkpoint, a folder, a GGUF file or a hub name",
    )
