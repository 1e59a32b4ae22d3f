"""Models of Hugging Face's library: a folder, a GGUF file, a name on the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calibration.errors import ArtefactError
from simulation.models import rope_factors
from simulation.models.filling import require_filled, require_own_vocabulary
from simulation.models.language import Language, needed_package, not_loaded
from simulation.models.soundness import (
    Holdings,
    require_as_large,
    require_plain_numbers,
    require_sound_folder,
    require_sound_gguf,
)

CONTEXT_MAX = 1024
TRIED = 8
"""Tokens that a model is tried with."""
ROUNDED = 1e-4
"""Of the largest logit: by less do answers differ that are the same, in numbers of 32 bits."""
LEFT_OUT = 1e-3
"""The largest share of a text's letters without a token."""
HUB_TIMEOUT_S = "10"
TOKENIZERS = re.compile(r"token|vocab|merges|spiece|sentencepiece|tekken|spm|bpe", re.I)
"""In the names of files that tokenizers are saved as."""
ANSWER_S = 5.0
"""Within which the hub is to answer; its library alone would ask twelve times in a minute."""


def load_folder(path: Path, to_score: bool = True) -> Language:
    """A folder as the library saves it; safetensors only.

    Raises
    ------
    ArtefactError
    """
    return _load(path, path.name, require_sound_folder(path), to_score, local_files_only=True)


def load_gguf(path: Path, to_score: bool = True) -> Language:
    """A GGUF file, whose weights become float32.

    Raises
    ------
    ArtefactError
    """
    held = require_sound_gguf(path)
    needed_package("gguf", path)
    return _load(path, path.stem, held, to_score, gguf_file=path.name, local_files_only=True)


def load_from_hub(name: str, to_score: bool = True) -> Language:
    """By its name there; safetensors only. A copy that the library has kept will do where the hub does not answer.

    Raises
    ------
    ArtefactError
    """
    hub = needed_package("huggingface_hub", name)
    try:
        import_module("huggingface_hub.utils").validate_repo_id(name)
    except ValueError as error:
        raise not_loaded(
            name, "there is no such model", "a file, a folder, or a name on the hub, owner/name", "nothing there"
        ) from error
    endpoint = str(import_module("huggingface_hub.constants").ENDPOINT)
    if _answers(endpoint):
        return _load(name, name, None, to_score)
    if not isinstance(hub.try_to_load_from_cache(name, "config.json"), str):
        raise not_loaded(
            name,
            "there is no such model here, and the hub cannot be asked",
            f"a file, a folder, or an answer from {endpoint} within {ANSWER_S:g} s",
            "nothing there, and no answer",
            "check the path, or the network and HF_HUB_OFFLINE",
        )
    return _load(name, name, None, to_score, local_files_only=True)


def _answers(endpoint: str) -> bool:
    """Whether the hub answers at all, whatever it says: asked once, through the library's own session."""
    try:
        import_module("huggingface_hub.utils").get_session().head(f"{endpoint}/api/models", timeout=ANSWER_S)
    except Exception:  # of whichever library makes its requests, or because the user has switched them off
        return False
    return True


def model_of(config: Mapping[str, Any]) -> nn.Module:
    """A model of the library by its configuration, as a dictionary; float32, its weights random.

    Raises
    ------
    ArtefactError
        When the library is not installed.
    """
    transformers = needed_package("transformers", str(config.get("model_type")))
    made = transformers.AutoConfig.for_model(**config)
    model: nn.Module = transformers.AutoModelForCausalLM.from_config(made, trust_remote_code=False)
    return model.float()


def _load(source: Path | str, name: str, held: Holdings | None, to_score: bool, **options: Any) -> Language:
    where = str(source)
    for variable in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        os.environ.setdefault(variable, HUB_TIMEOUT_S)
    transformers = needed_package("transformers", where)
    with _coded(where), _silent(transformers):
        folder = str(source.parent) if isinstance(source, Path) and "gguf_file" in options else where
        safe = {"trust_remote_code": False, **options}
        tokenizer = _tokenizer(transformers, folder, to_score, safe)
        model, told = _read(transformers, folder, held, safe)
    require_filled(where, model, told, held)
    _require_finite(where, model)
    config: Any = model.config
    limit, vocabulary = int(getattr(config, "max_position_embeddings", CONTEXT_MAX)), int(config.vocab_size)
    logits = _logits_of_two(where, model.eval(), max(1, min(limit, TRIED)), vocabulary)
    if to_score:
        _require_blind(where, model, logits)
    if tokenizer is not None:
        require_own_vocabulary(where, tokenizer, config, vocabulary)
    encode = _encoder(where, tokenizer, vocabulary)
    return Language(name, model, encode, min(limit, CONTEXT_MAX), vocabulary, getattr(tokenizer, "unk_token_id", None))


def _tokenizer(transformers: Any, folder: str, to_score: bool, safe: dict[str, Any]) -> Any:
    """The tokenizer; None where a folder has none and none is needed.

    The folder is looked through first: for some models the library makes an empty tokenizer of no files.
    """
    is_here = Path(folder).is_dir() and "gguf_file" not in safe
    if is_here and not any(TOKENIZERS.search(file.name) for file in Path(folder).iterdir()):
        if to_score:
            raise _no_tokenizer(folder)
        return None
    return transformers.AutoTokenizer.from_pretrained(folder, **safe)


def _no_tokenizer(folder: str) -> ArtefactError:
    return not_loaded(
        folder,
        "there is no tokenizer in the folder, so that no text can be read",
        "the model and its tokenizer in one folder",
        "the model alone",
        f"save it there, too: tokenizer.save_pretrained({folder!r})",
    )


def _read(
    transformers: Any, folder: str, held: Holdings | None, safe: dict[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The model, and what the library says of its weights."""
    config = transformers.AutoConfig.from_pretrained(folder, **safe)
    if "gguf_file" in safe:
        if held is not None and rope_factors.TENSOR in held.shapes:
            rope_factors.scale_positions(Path(folder) / safe["gguf_file"], config)
    else:
        require_plain_numbers(folder, config.to_dict())
        safe = {"use_safetensors": True, **safe}
    if held is not None:
        with torch.device("meta"):
            skeleton = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        require_as_large(folder, skeleton, held)
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **safe
    )
    return model, told


def _encoder(where: str, tokenizer: Any, vocabulary: int) -> Callable[[str], list[int]]:
    is_fast = bool(getattr(tokenizer, "is_fast", False))  # others do not say which letters a token stands for

    def encode(text: str) -> list[int]:
        if tokenizer is None:
            raise _no_tokenizer(where)
        try:
            found = tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=is_fast)
        except Exception as error:  # of what it has no token for, not even one for what is unknown
            raise not_loaded(
                where, "the tokenizer cannot read a text", "tokens", str(error)[:200], "give it an unk_token"
            ) from error
        ids = [int(i) for i in found["input_ids"]]
        if text and not ids:
            raise not_loaded(where, "the tokenizer makes nothing of a text", "tokens", f"none of {text[:40]!r}")
        if ids and not 0 <= min(ids) <= max(ids) < vocabulary:
            raise not_loaded(where, "the tokenizer does not fit the model", f"{vocabulary} tokens", f"token {max(ids)}")
        if is_fast:
            _require_all_letters(where, text, found["offset_mapping"])
        return ids

    return encode


def _require_all_letters(where: str, text: str, spans: list[tuple[int, int]]) -> None:
    """Refuse a tokenizer that leaves out what it does not know: its perplexity would be that of another text."""
    left_out, begun = [], 0
    for start, end in (*spans, (len(text), len(text))):
        left_out += [place for place in range(begun, start) if text[place].isalnum()]
        begun = max(begun, end)
    letters = sum(map(str.isalnum, text)) if left_out else 0
    if len(left_out) > LEFT_OUT * letters:
        first = left_out[0]
        raise not_loaded(
            where,
            "the tokenizer leaves out letters of the text",
            "a token for each letter, if only one for what is unknown",
            f"{len(left_out)} of {letters} letters left out, the first in {text[max(first - 10, 0) : first + 20]!r}",
            "give it an unk_token, or take a text of its own words",
        )


@contextmanager
def _coded(where: str) -> Iterator[None]:
    """The library raises many kinds of errors."""
    try:
        yield
    except ArtefactError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()
        raise not_loaded(
            where,
            "the model cannot be loaded",
            "a folder or GGUF file of a causal language model, or a hub name and a network",
            f"{type(error).__name__}: {first[0] if first else ''}",
        ) from error


@contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """The library writes bars and tables between our own lines; what matters in them is said in an error."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    gguf: Any = import_module("transformers.modeling_gguf_pytorch_utils")  # its bar asks nobody
    bar, gguf.tqdm = getattr(gguf, "tqdm", None), lambda tensors, **_: tensors
    try:
        yield
    finally:
        gguf.tqdm = bar
        logging.set_verbosity(before)


def _require_finite(where: str, model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise not_loaded(where, f"weights of {name} are not finite", "finite numbers", "NaN or infinite")


def _logits_of_two(where: str, model: nn.Module, tokens: int, vocabulary: int) -> Tensor:
    """(2, tokens, V) of two rows that differ in the last token.

    A model whose sizes do not belong together is found here, and not in a measurement.
    """
    pad = getattr(model.config, "pad_token_id", None)
    usable = [token for token in range(min(vocabulary, tokens + 2)) if token != pad] or [0]
    ids = torch.tensor([usable[i % len(usable)] for i in range(tokens)]).expand(2, -1).clone()
    ids[1, -1] = usable[-1] if usable[-1] != int(ids[0, -1]) else usable[0]
    try:
        with torch.no_grad():
            logits: Tensor = model(ids).logits
    except Exception as error:  # whatever its sizes lead to
        raise not_loaded(
            where, "the model cannot be run", f"{tokens} tokens in, their logits out", str(error)[:300]
        ) from error
    if not bool(logits.isfinite().all()):
        raise not_loaded(where, "the model answers with what is no number", "finite logits", "NaN or infinite")
    return logits


def _require_blind(where: str, model: nn.Module, logits: Tensor) -> None:
    """Refuse a model that sees what it is to say next, as one of masked words does: its perplexity says nothing."""
    before, after = logits[:, :-1]
    if float((before - after).abs().max() if before.numel() else 0.0) > ROUNDED * float(logits.abs().max()):
        raise not_loaded(
            where,
            "the model sees the tokens that it is to predict",
            "a model of the next token, whose answer rests on what stands before it",
            f"{type(model).__name__}: another last token changes the answers to those before it",
            "take a model for text generation; one of masked words has no perplexity",
        )
