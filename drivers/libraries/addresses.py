"""Addresses of devices, as they may be shown and stored."""

from __future__ import annotations

import re


def without_password(words: str) -> str:
    """The words with user names and passwords left out: ``http://camera/`` for ``http://me:secret@camera/``."""
    return re.sub(r"(\w+://)[^/@\s]*@", r"\1", words)
