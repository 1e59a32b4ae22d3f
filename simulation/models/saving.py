"""A changed language model back where models of its kind are kept: our own checkpoints, or a folder of Hugging Face.

A model from a folder or the hub becomes such a folder again. One of a GGUF file or of llama2.c becomes one, too:
neither format is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers
from torch import nn

from simulation.models.checkpoint import load_checkpoint, save_checkpoint
from simulation.models.gpt import GPT
from simulation.models.language import needed_package
from simulation.models.llama2c import llama2c_pieces

SPECIAL = ("<unk>", "<s>", "</s>")  # of llama2.c, by their ids


def save_language(folder: str | Path, model: nn.Module, source: str | Path, record: Mapping[str, Any]) -> Path:
    """Save a model with the tokenizer of the one that it was made from.

    Parameters
    ----------
    folder
        Where the files go; it exists.
    model
        As `simulation.models.loading.load_language` gave it, with other weights.
    source
        What it was loaded from.
    record
        What made it, as JSON types; kept in the metadata of our own checkpoints.

    Returns
    -------
    What `load_language` takes to load it: the folder, or the checkpoint in it. Our checkpoints hold half-precision
    numbers, the others the type that the model has.

    Raises
    ------
    ArtefactError
        If a weight is not a finite half-precision number, or the source is no longer there.
    """
    folder, path = Path(folder), Path(source)
    if isinstance(model, GPT):
        file = folder / f"{path.stem}.safetensors"
        save_checkpoint(file, model, load_checkpoint(path).tokenizer, record)
        return file
    transformers = needed_package("transformers", str(source))
    transformers.utils.logging.disable_progress_bar()
    if path.suffix == ".bin":
        pieces, scores = llama2c_pieces(path, int(model.config.vocab_size))  # type: ignore[union-attr,arg-type]
        unknown, begin, end = SPECIAL
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=llama2c_tokenizer(pieces, scores),
            unk_token=unknown,
            bos_token=begin,
            eos_token=end,
            split_special_tokens=True,  # a text may hold their names
        )
    elif path.suffix == ".gguf":
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
        # the library made its numbers floating-point, but goes on to call it quantised, and would not save it
        vars(model).pop("hf_quantizer", None)
        vars(model.config).pop("quantization_config", None)
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)
    return folder


def llama2c_tokenizer(pieces: Sequence[bytes], scores: Sequence[float]) -> Tokenizer:
    """The tokenizer of llama2.c as byte-pair encoding: the better scored of two merges comes first.

    Parameters
    ----------
    pieces, scores
        From `simulation.models.llama2c.llama2c_pieces`.
    """
    words = [piece.decode(errors="replace").replace(" ", "▁") for piece in pieces]
    words[: len(SPECIAL)] = SPECIAL
    ids = {word: i for i, word in reversed(list(enumerate(words)))}
    merges = [
        (-scores[ids[word]], word[:cut], word[cut:])
        for word in ids
        for cut in range(1, len(word))
        if word[:cut] in ids and word[cut:] in ids and word not in SPECIAL
    ]
    pairs = [(left, right) for _, left, right in sorted(merges, key=lambda merge: merge[0])]
    tokenizer = Tokenizer(models.BPE(ids, pairs, unk_token=SPECIAL[0], byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer
