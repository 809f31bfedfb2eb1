"""The runs that a report gathers: folders with the `metrics.json` that a command wrote."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tfface.data.dataset import natural_key
from tfface.errors import UserError
from tfface.utils.files import read_json

T = TypeVar("T")
_HEAD = ("command", "versions", "started", "seconds")


@dataclass(frozen=True)
class Run:
    """One result object.

    Attributes:
        folder: where its `metrics.json` lies.
        label: what the report calls it.
        metrics: the object.
        alone: it is the only one of its file.
        stage: what `reproduce` keeps beside it in `stage.json`; empty where there is none.
    """

    folder: Path
    label: str
    metrics: dict[str, Any]
    alone: bool
    stage: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return str(self.metrics["command"])

    def view(self, function: Callable[[dict[str, Any]], T]) -> T:
        """What a function makes of the object.

        Raises:
            UserError: the object is not of the schema that the function reads.
        """
        try:
            return function(self.metrics)
        except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            raise UserError(
                f"{self.folder / 'metrics.json'} is no {self.command} result as this version writes it ({what}): "
                f"run {self.command} again, or leave it out"
            ) from error


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """All runs in or below the folders, in their order.

    Raises:
        UserError: a folder has none, or a file is not of the schema.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give the --out folder of a command")
        below = sorted(folder.rglob("metrics.json"), key=lambda path: natural_key(path.as_posix()))
        if not below:
            raise UserError(f"{folder} holds no metrics.json: give the --out folder of a command")
        found += below
    files = list({path.resolve(): path for path in found}.values())
    labels = _labels([path.parent for path in files])
    return [run for path, label in zip(files, labels, strict=True) for run in _runs_of(path, label)]


def _labels(folders: Sequence[Path]) -> list[str]:
    """Folder names, with as much of what is above as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    labels = [name[-1] for name in parts]
    depth = 1
    while (same := {label for label, count in Counter(labels).items() if count > 1}) and depth < 20:
        depth += 1
        labels = [
            os.sep.join(name[-depth:]) if label in same else label for name, label in zip(parts, labels, strict=True)
        ]
    return labels


def _runs_of(path: Path, label: str) -> list[Run]:
    content = read_json(path)
    objects = content.get("models") if isinstance(content, dict) and "models" in content else [content]
    if not isinstance(objects, list) or not objects:
        raise UserError(f"{path} has an empty or malformed 'models': run its command again")
    for entry in objects:
        missing = [key for key in _HEAD if key not in entry] if isinstance(entry, dict) else ["any entry"]
        if missing:
            raise UserError(f"{path} is no result of a tfface command (it lacks {', '.join(missing)}): leave it out")
    alone, beside = len(objects) == 1, path.with_name("stage.json")
    stage = read_json(beside) if beside.is_file() else {}
    if not isinstance(stage, dict):
        raise UserError(f"{beside} is no record of a stage: run reproduce again, or delete it")
    return [
        Run(path.parent, label if alone else f"{label} ({_setting(entry, objects)})", entry, alone, stage)
        for entry in objects
    ]


def _setting(entry: dict[str, Any], others: list[dict[str, Any]]) -> str:
    """In what a result differs from the others of its file."""
    of_model = ("preset", "dataset", "recipe", "defense", "corruption")
    naming = (*of_model, "attack", "knowledge", "surrogate", "norm", "goal")
    differing = [name for name in naming if len({str(other.get(name)) for other in others}) > 1]
    own = [str(entry.get(name) or "none") for name in differing]
    return ", ".join(own) or str(others.index(entry) + 1)
