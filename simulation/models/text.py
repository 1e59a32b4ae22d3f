"""Text to train and to measure on: files, the language reference that every Python carries, and byte-level BPE."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from calibration.errors import BadOperands
from groundwork.opening.regular import decoded, read_regular

HELD_OUT_ONE_IN = 5  # topics whose name hashes to 0 modulo this are never trained on
BYTES = 256  # the smallest byte-level vocabulary


@dataclass(frozen=True)
class Text:
    """A text and where it comes from; records keep its name and digest, never its content.

    Attributes
    ----------
    name
        File name, or ``"pydoc_data.topics/train"``.
    content
        The characters.
    sha256
        Of the bytes of the file (of the UTF-8 content if there is no file).
    """

    name: str
    content: str
    sha256: str


def load_texts(paths: Iterable[str | Path]) -> list[Text]:
    """Read UTF-8 text files.

    Raises
    ------
    BadOperands
        If a file cannot be read, is not UTF-8 or is empty.
    """
    return [_load_text(Path(path)) for path in paths]


def pydoc_topics(split: Literal["train", "heldout"]) -> str:
    """The Python language reference of `pydoc_data.topics`, split by the hash of each topic's name.

    A topic keeps its side in every Python version. Topics quote one another, so the paragraphs that a held-out topic
    holds are left out of the training side.
    """
    heldout = list(heldout_topics().values())
    if split == "heldout":
        return "\n".join(heldout)
    unseen = {paragraph.strip() for text in heldout for paragraph in _paragraphs(text)}
    train = [topics[name] for name in sorted(topics) if not _is_held_out(name)]
    return "\n".join("\n\n".join(p for p in _paragraphs(text) if p.strip() not in unseen) for text in train)


def heldout_topics() -> dict[str, str]:
    """The topics of the Python language reference that are never trained on, by name."""
    return {name: topics[name] for name in sorted(topics) if _is_held_out(name)}


def pydoc_text(split: Literal["train", "heldout"]) -> Text:
    """`pydoc_topics` with its name and digest."""
    content = pydoc_topics(split)
    return Text(f"pydoc_data.topics/{split}", content, hashlib.sha256(content.encode()).hexdigest())


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE: every string has tokens, and decoding returns it unchanged.

    Parameters
    ----------
    texts
        What the merges are learned from.
    vocabulary
        Largest number of tokens, at least 256; fewer if the texts have no more pairs to merge.
    """
    if vocabulary < BYTES:
        raise BadOperands(
            "vocabulary too small for byte-level BPE",
            expected=f"at least {BYTES} tokens",
            seen=str(vocabulary),
            hint="--vocabulary 1024",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _load_text(path: Path) -> Text:
    try:
        raw = read_regular(path)
        content = decoded(raw, path).replace("\r\n", "\n")
    except OSError as error:
        raise BadOperands(
            "text cannot be read",
            device=str(path),
            expected="a file of UTF-8 text",
            seen="no file of this name" if isinstance(error, FileNotFoundError) else str(error),
            hint="leave out --text: Python's documentation is read then",
        ) from error
    if not content.strip():
        raise BadOperands("text is empty", device=str(path), expected="some text", seen=f"{len(raw)} bytes")
    return Text(path.name, content, hashlib.sha256(raw).hexdigest())


def _is_held_out(name: str) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT_ONE_IN == 0


def _paragraphs(text: str) -> Iterator[str]:
    return (paragraph for paragraph in text.split("\n\n") if paragraph.strip())
