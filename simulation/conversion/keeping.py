"""What stays digital by request."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache


@lru_cache(maxsize=1 << 16)
def is_kept(name: str, keep: tuple[str, ...]) -> bool:
    """Whether a name, or that of a module in which it is, is one of the names or shell patterns of ``keep``."""
    parts = name.split(".")
    within = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return any(fnmatchcase(each, pattern) for pattern in keep for each in within)
