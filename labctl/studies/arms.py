"""Train the arms of a family into one folder, resumably, and say which models an arm has and which it lacks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from groundwork.nearest import did_you_mean
from groundwork.opening.json_text import read_json
from labctl.archive.atomic import atomic_write_json, storage
from labctl.errors import UsageError
from labctl.studies.train import train_to
from simulation.models.checkpoint import load_checkpoint
from simulation.models.text import Text
from simulation.training.arms import ARMS, Arm, Planned, Recipe, in_order
from simulation.training.qat import QuantisedForward
from simulation.training.train import Progress

SCHEMA = "labctl.arms/1"
MANIFEST = "arms.json"
"""In the folder: the names of the models of each arm, trained or not."""


def asked_arms(stated: str) -> tuple[Arm, ...]:
    """Arms by name, ``"width,depth"`` or ``"all"``, in the order in which they are trained.

    Raises
    ------
    UsageError
        For what is no arm.
    """
    names = [name.strip() for name in stated.split(",")]
    unknown = [name for name in names if name not in (*ARMS, "all")]
    if unknown:
        hint = did_you_mean(unknown[0], (*ARMS, "all"), "--arms all")
        raise UsageError("no such arm", expected=f"all, {', '.join(ARMS)}", seen=", ".join(unknown), hint=hint)
    return tuple(arm for arm in ARMS if arm in names or "all" in names)


def checkpoint_path(folder: Path, name: str) -> Path:
    """Where a model of an arm lies, or will."""
    return folder / f"{name}.safetensors"


def train_arms(
    folder: Path,
    arms: Sequence[Arm],
    recipe: Recipe,
    texts: Sequence[Text],
    begin: Callable[[Planned], Callable[[Progress], None]],
) -> dict[str, Mapping[str, Any]]:
    """Train what is missing, in the order of the arms and the quick models first; returns the record of each model.

    ``begin`` is told of each model before it is trained, and gives who is told of its steps.

    Raises
    ------
    UsageError
        When the folder holds a model of the same name and another recipe.
    StorageError
        Disk full or not writable; what was finished is intact.
    """
    members = in_order(arms, recipe)
    _keep_manifest(folder, {arm: [each.name for each in planned] for arm, planned in members.items()})
    in_float = {} if "qat" not in members else {each.name: each for each in in_order(["width"], recipe)["width"]}
    records: dict[str, Mapping[str, Any]] = {}
    for each in (one for planned in members.values() for one in planned):
        for one in filter(None, (in_float.get(each.start or ""), each)):
            if one.name not in records:
                records[one.name] = _trained(folder, one, texts, begin)
    return records


def _trained(
    folder: Path, planned: Planned, texts: Sequence[Text], begin: Callable[[Planned], Callable[[Progress], None]]
) -> Mapping[str, Any]:
    """The record of a model, trained now or before."""
    path = checkpoint_path(folder, planned.name)
    if path.exists():
        record = load_checkpoint(path).record
        same_texts = [t["sha256"] for t in record.get("texts", [])[1:]] == [text.sha256 for text in texts]
        if record.get("config") != asdict(planned.config) or not same_texts:
            raise UsageError(
                f"{path.name} was trained otherwise",
                expected=json.dumps(asdict(planned.config)),
                seen=json.dumps(record.get("config")) + ("" if same_texts else ", of other texts"),
                hint="the same options and texts as before, or another folder",
            )
        return record
    if planned.start is None:
        return train_to(path, planned.config, texts, progress=begin(planned))
    start = load_checkpoint(checkpoint_path(folder, planned.start))
    return train_to(path, planned.config, texts, start=start, forward=QuantisedForward(), progress=begin(planned))


def members_of(folder: Path) -> dict[Arm, tuple[str, ...]]:
    """The names of the models of each arm of a folder, trained or not.

    Raises
    ------
    UsageError
        When the folder has no arms.
    """
    path = folder / MANIFEST
    try:
        document = read_json(path)
        if document["schema"] != SCHEMA:
            raise ValueError(document["schema"])
        return {arm: _names(document["arms"][arm]) for arm in ARMS if arm in document["arms"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "no arms of a family here",
            device=str(path),
            expected=f"{MANIFEST} of labctl train",
            seen=f"{type(error).__name__}: {error}",
            hint=f"labctl train {folder} --arms all",
        ) from error


def _names(stated: Any) -> tuple[str, ...]:
    """Of the models of an arm, each once: one that counted twice would look like another training."""
    if not isinstance(stated, list) or not all(isinstance(name, str) and name for name in stated):
        raise ValueError("names of models")
    return tuple(dict.fromkeys(stated))


def _keep_manifest(folder: Path, planned: Mapping[Arm, Sequence[str]]) -> None:
    """Add to the arms of the folder; what an earlier command planned stays."""
    before: Mapping[Arm, Sequence[str]] = members_of(folder) if (folder / MANIFEST).exists() else {}
    arms = {arm: list(dict.fromkeys([*before.get(arm, ()), *planned.get(arm, ())])) for arm in ARMS}
    with storage(folder, "making a folder for the arms"):
        folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(
        folder / MANIFEST, {"schema": SCHEMA, "arms": {arm: names for arm, names in arms.items() if names}}
    )
