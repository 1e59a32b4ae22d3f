"""Options that would do nothing."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.errors import UsageError


def refuse_unused(options: Mapping[str, object], owner: str, hint: str) -> None:
    """Refuse ``options`` by name that were given, though ``owner``, to which they belong, was not.

    Raises
    ------
    UsageError
    """
    if said := [name for name, value in options.items() if value]:
        what = f"{' and '.join(said)} would do nothing without {owner}"
        raise UsageError(what, expected=owner, seen=", ".join(said), hint=hint)
