"""The file of a bench's secrets: what systemd reads for the service of a night, labctl reads itself elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from groundwork.errors import FileRefused
from groundwork.opening.regular import open_regular
from labctl.errors import storage_error
from labctl.units import config_home

BYTES_MAX = 65_536
_LINE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)=(.*?)\s*")


@dataclass(frozen=True)
class Secrets:
    """What the file of a bench says.

    Attributes
    ----------
    path
        Where it is, or would be.
    values
        Of the variables; empty where the file is missing or not trusted.
    problems
        What is wrong with it, in words that hold none of the values.
    """

    path: Path
    values: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def knows(self, variable: str) -> bool:
        """Whether a variable is set, here or by the file."""
        return bool(os.environ.get(variable, "").strip() or self.values.get(variable))


def secrets_folder() -> Path:
    """Where the files of this user's benches are."""
    return config_home() / "labctl"


def secrets_path(bench: str) -> Path:
    """The file of ``NAME=value`` lines of a bench's nights; labctl never writes it."""
    return secrets_folder() / f"night-{bench}.env"


def make_folder(folder: Path) -> None:
    """Make the folder of the files, for nobody else to look into.

    Raises
    ------
    StorageError
        When that fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise storage_error(error, folder, "making the folder of secrets") from error


def read_secrets(bench: str) -> Secrets:
    """Read the file as lines ``NAME=value``, of which nothing is executed.

    What somebody else may write is not trusted, and not taken: a variable can name a program. What others may read is
    taken, and said.
    """
    path = secrets_path(bench)
    try:
        with open_regular(path) as file:
            about = os.fstat(file.fileno())
            if about.st_size > BYTES_MAX:
                return Secrets(path, problems=(f"{path} is no file of NAME=value lines: it is not read",))
            if os.name == "posix" and (about.st_uid not in (0, os.getuid()) or about.st_mode & 0o022):
                return Secrets(path, problems=(f"{path} can be changed by others, and is not read: chmod 600 {path}",))
            text = file.read(BYTES_MAX).decode(errors="replace")
    except FileNotFoundError:
        return Secrets(path)
    except FileRefused:
        return Secrets(path, problems=(f"{path} is no file of NAME=value lines: it is not read",))
    except OSError as error:
        return Secrets(path, problems=(f"{path} cannot be read: {error.strerror or type(error).__name__}",))
    problems = []
    if os.name == "posix" and about.st_mode & 0o044:
        problems.append(f"{path} can be read by others: chmod 600 {path}")
    values, wrong = _parsed(text)
    if wrong:
        problems.append(f"{path}: no NAME=value in line {', '.join(map(str, wrong))}")
    return Secrets(path, values, tuple(problems))


def take_secrets(bench: str, warn: Callable[[str], None]) -> None:
    """Set in this process what the file says and the environment does not, for programs that are started, too."""
    found = read_secrets(bench)
    for problem in found.problems:
        warn(f"warning: {problem}")
    for name, value in found.values.items():
        os.environ.setdefault(name, value)


def _parsed(text: str) -> tuple[dict[str, str], list[int]]:
    """The variables, and the numbers of the lines that set none."""
    values: dict[str, str] = {}
    wrong = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        match = _LINE.fullmatch(line)
        if match is None or "\0" in line:
            wrong.append(number)
            continue
        value = match[2].strip()
        is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        values[match[1]] = value[1:-1] if is_quoted else value
    return values, wrong
