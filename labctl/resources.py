"""Where the files that ship with the suite lie: ``data/`` in a checkout, ``labctl/_data`` in a wheel."""

from __future__ import annotations

from pathlib import Path

from labctl.errors import ConfigError

_PACKAGE = Path(__file__).parent


def data_path(relative: str) -> Path:
    """The file or folder ``data/<relative>``.

    Raises
    ------
    ConfigError
        When the installation does not have it.
    """
    places = (_PACKAGE / "_data", _PACKAGE.parent / "data")
    for place in places:
        if (place / relative).exists():
            return place / relative
    raise ConfigError(
        f"data file {relative} is missing from this installation",
        expected=" or ".join(str(place / relative) for place in places),
        hint="reinstall: python -m pip install --force-reinstall labctl",
    )


def shipped_model() -> Path:
    """The checkpoint that comes with the suite: width 128.

    Examples
    --------
    >>> import labctl
    >>> labctl.shipped_model().name
    'optical-gpt-d128.safetensors'
    """
    return data_path("models/optical-gpt-d128.safetensors")


def shipped_family() -> list[Path]:
    """The checkpoints that come with the suite in several widths, trained alike."""
    return sorted(data_path("models/family").glob("*.safetensors"))
