"""The SEAL: hashes of everything a run's verdict rests on. Its absence means "not finished"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from groundwork.opening.json_text import read_json
from groundwork.opening.regular import open_regular
from labctl.archive.atomic import atomic_write_json, storage
from labctl.archive.progress import PROGRESS
from labctl.archive.removal import REMOVED, Removal, read_removal
from labctl.archive.segments import MANIFEST, read_manifest
from labctl.archive.space import RESERVE
from labctl.errors import RunDamaged
from labctl.verdicts import COMPLETE, Verdict

SEAL = "SEAL"
SEGMENTS = "segments"
REPORT = "report.html"
PINNED = "pinned.json"
PREVIEW = "preview.npz"
SUMMARY = "summary.json"
SCHEMA = "labctl.seal/1"

_UNSEALED = frozenset({SEAL, "run.json", ".lock", "log.jsonl", PROGRESS, PREVIEW, RESERVE, PINNED, REMOVED})
"""The seal itself, status, lock, log, progress, preview and reserve, and what retention does; pages that can be made
again (``report*``) are left out beside these.

This is for sealing alone: a seal lists the files that it covers, and verifying asks the list.
"""


@dataclass(frozen=True)
class Seal:
    """What a SEAL file says.

    Attributes
    ----------
    run_id, verdict, exit_code, finished
        Of the run; ``exit_code`` is None where the process died without one (``crashed``).
    files
        Path inside the run folder (``/`` everywhere) → SHA-256.
    digest
        SHA-256 over all of the above: one line that stands for the run.
    """

    run_id: str
    verdict: Verdict
    exit_code: int | None
    finished: str
    files: dict[str, str]
    digest: str


@dataclass(frozen=True)
class Problem:
    """One thing that is not as sealed: ``Problem("segments/000003.h5", "altered", "9f…", "1c…")``."""

    path: str
    what: str
    expected: str = ""
    seen: str = ""


@dataclass(frozen=True)
class Verification:
    """What recomputing every hash of a run found."""

    run_id: str
    sealed: bool
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    removed: str | None = None
    """When retention removed the raw data, which then are no problem."""

    @property
    def intact(self) -> bool:
        """No problem found; an unsealed run can be intact as far as it got."""
        return not self.problems

    @property
    def words(self) -> str:
        """What is said of an intact run."""
        if self.removed:
            return f"raw data removed on {self.removed[:10]} by retention; everything else intact"
        return "sealed and intact" if self.sealed else "not sealed; intact as far as it got"

    def raise_if_damaged(self) -> None:
        """Raise `RunDamaged` with the first problem, unless the run is intact."""
        if self.problems:
            first, more = self.problems[0], len(self.problems) - 1
            raise RunDamaged(
                f"{first.path} is {first.what}" + (f" (and {more} more)" if more else ""),
                device=self.run_id,
                action="verifying",
                expected=first.expected,
                seen=first.seen,
                hint="restore the folder from a copy, or measure again",
            )


def write_seal(folder: Path, run_id: str, verdict: Verdict, exit_code: int | None, finished: str) -> Seal:
    """Hash the run's files and write SEAL: the last file of a run but for its status."""
    files = {name: _sha256(folder / name) for name in _sealed_files(folder)}
    seal = Seal(run_id, verdict, exit_code, finished, files, _digest(run_id, verdict, exit_code, finished, files))
    atomic_write_json(folder / SEAL, {"schema": SCHEMA, **vars(seal)})
    return seal


def read_seal(folder: Path) -> Seal | None:
    """The seal of a run, or None when it has none.

    Raises
    ------
    RunDamaged
        When the SEAL file was altered.
    """
    path = folder / SEAL
    if not path.exists():
        return None
    try:
        with storage(path, "reading"):
            document = read_json(path)
        if document.pop("schema") != SCHEMA:
            raise ValueError(f"schema is not {SCHEMA}")
        seal = Seal(**{**document, "verdict": Verdict(document["verdict"])})
        if seal.digest != _digest(seal.run_id, seal.verdict, seal.exit_code, seal.finished, seal.files):
            raise ValueError("its digest is not that of its contents")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunDamaged("the seal was altered", device=str(path), action="verifying", seen=str(error)) from error
    return seal


def verify_run(folder: Path) -> Verification:
    """Recompute the hash of every segment and every sealed file."""
    problems: list[Problem] = []
    expected: dict[str, str] = {}
    seal = None
    try:
        seal = read_seal(folder)
    except RunDamaged as error:
        problems.append(Problem(SEAL, "altered", seen=error.seen))
    try:
        expected |= {f"{SEGMENTS}/{row.file}": row.sha256 for row in read_manifest(folder / SEGMENTS)}
    except RunDamaged as error:
        problems.append(Problem(f"{SEGMENTS}/{MANIFEST}", "unreadable", error.expected, error.seen))
    if seal:
        expected |= seal.files
    removal = _removal(folder, seal, problems)
    gone = {f"{SEGMENTS}/{name}" for name in removal.files} if removal else set()
    total = found_gone = 0
    for name, sha256 in expected.items():
        path = folder / name
        if not path.is_file():
            if name in gone:
                found_gone += 1
                continue
            problems.append(Problem(name, "missing"))
            continue
        total += path.stat().st_size
        if (found := _sha256(path)) != sha256:
            problems.append(Problem(name, "altered", f"sha256 {sha256[:12]}…", f"{found[:12]}…"))
    problems += _problems_of_run_json(folder, seal)
    unlisted = (
        path.name for path in sorted((folder / SEGMENTS).glob("*.h5")) if f"{SEGMENTS}/{path.name}" not in expected
    )
    if seal:
        problems += [Problem(f"{SEGMENTS}/{name}", "not in the manifest") for name in unlisted]
    return Verification(
        folder.name,
        seal is not None,
        len(expected) - found_gone,
        total,
        tuple(problems),
        removal.at if removal else None,
    )


def _removal(folder: Path, seal: Seal | None, problems: list[Problem]) -> Removal | None:
    """What retention removed; a record that was altered, or is of another run, is a problem and counts for nothing."""
    try:
        removal = read_removal(folder)
    except RunDamaged as error:
        problems.append(Problem(REMOVED, "altered", seen=error.seen))
        return None
    if removal and (seal is None or seal.digest != removal.seal):
        problems.append(Problem(REMOVED, "not of this seal"))
        return None
    return removal


def _problems_of_run_json(folder: Path, seal: Seal | None) -> list[Problem]:
    """Where ``run.json``, which no seal covers, says another thing than what was sealed."""
    try:
        said = read_json(folder / "run.json")
        verdict = said.get("verdict")
        if seal is None:  # it is written after the seal, and a run that was complete never goes on
            return [Problem(SEAL, "missing", seen=f"run.json says {verdict}")] if verdict in COMPLETE else []
        sealed: dict[str, object] = {"run_id": seal.run_id, "config_sha256": seal.files.get("config.toml")}
        if verdict is not None:  # else it was killed between both
            sealed |= {"verdict": str(seal.verdict), "exit_code": seal.exit_code, "finished": seal.finished}
        if SUMMARY in seal.files:
            summary = read_json(folder / SUMMARY)
            sealed |= {key: summary.get(key) for key in ("bench", "mode")}
            if _minutes_apart(summary.get("started"), said.get("started")) > 1:  # early versions asked the clock twice
                sealed["started"] = summary["started"]
        return [
            Problem("run.json", f"not as sealed ({key})", str(value), str(said.get(key)))
            for key, value in sealed.items()
            if value is not None and said.get(key) != value
        ]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return [Problem("run.json", "unreadable", seen=str(error))]


def _minutes_apart(one: str | None, other: str) -> float:
    return abs(datetime.fromisoformat(other) - datetime.fromisoformat(one or other)) / timedelta(minutes=1)


def _sealed_files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        listed_by_manifest = name.startswith(f"{SEGMENTS}/") and path.name != MANIFEST
        if path.is_file() and not (
            name in _UNSEALED or name.startswith("report") or listed_by_manifest or name.endswith(".tmp")
        ):
            yield name


def _digest(run_id: str, verdict: Verdict, exit_code: int | None, finished: str, files: dict[str, str]) -> str:
    content = json.dumps([run_id, verdict, exit_code, finished, sorted(files.items())], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with storage(path, "hashing"), open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
