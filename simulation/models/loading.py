"""Language models from where people have them: our checkpoints, a folder, a GGUF file, llama2.c, a hub name.

Nothing that is loaded runs code of its own: no pickle, no remote code. Hugging Face's library is needed for all but our
own checkpoints: ``pip install "labctl[hf]"``.
"""

from __future__ import annotations

from pathlib import Path

from groundwork.opening.regular import require_regular
from simulation.models.checkpoint import Checkpoint, load_checkpoint
from simulation.models.huggingface import load_folder, load_from_hub, load_gguf
from simulation.models.language import Language, not_loaded
from simulation.models.llama2c import load_llama2c


def load_language(source: str | Path, *, to_score: bool = True) -> Language:
    """Load a model by what ``source`` is.

    Parameters
    ----------
    source
        ``*.safetensors`` of `labctl train`; a folder as Hugging Face saves it; ``*.gguf``; ``*.bin`` of llama2.c (with
        its tokenizer, ``tok*.bin``, beside it); else the name of a model on the Hugging Face hub.
    to_score
        Whether it has to be a model of the next token. One that sees the tokens that it is to predict, such as BERT,
        has operations, but no perplexity. Without, a folder needs no tokenizer, and reads no text then.

    Raises
    ------
    ArtefactError
        When there is no such model, the file is damaged, holds something else, does not fill the model tensor by
        tensor, a package is missing, or it cannot be scored.

    Examples
    --------
    >>> import labctl
    >>> language = labctl.load_language(labctl.shipped_model())
    >>> language.context, len(language.encode("The light is cheap."))
    (128, 8)
    """
    path = Path(source)
    if path.is_dir():
        return load_folder(path, to_score)
    if path.exists() or path.suffix in (".safetensors", ".gguf", ".bin"):
        try:
            require_regular(path)
        except OSError as error:
            raise not_loaded(path, "there is no such model", "a file", str(error) or "nothing there") from error
        if path.suffix == ".gguf":
            return load_gguf(path, to_score)
        if path.suffix == ".bin":
            return load_llama2c(path)
        return language_of(path.stem, load_checkpoint(path))
    return load_from_hub(str(source), to_score)


def language_of(name: str, checkpoint: Checkpoint) -> Language:
    """One of our own checkpoints."""
    config, tokenizer = checkpoint.model.config, checkpoint.tokenizer

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text).ids)

    return Language(name, checkpoint.model, encode, config.context, config.vocabulary)
