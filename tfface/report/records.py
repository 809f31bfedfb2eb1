"""The head of every `metrics.json`: what ran, on what, with which versions."""

import datetime
import importlib.metadata
import time
from dataclasses import dataclass, field
from typing import Any

from tfface import __version__
from tfface.data import FaceDataset
from tfface.defenses.stack import DefendedEmbedder
from tfface.models.base import Embedder


@dataclass
class Clock:
    """When a command started and how long it took."""

    started: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    _begin: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._begin, 2)


def versions() -> dict[str, str]:
    """The versions that a result depends on, without importing anything heavy."""
    packages = ("tensorflow", "keras", "numpy")
    return {"tfface": __version__, **{name: importlib.metadata.version(name) for name in packages}}


def head(
    command: str, embedder: Embedder, recipe: str, dataset: FaceDataset | None, seed: int, clock: Clock
) -> dict[str, Any]:
    """What every result names, in the order of the schema."""
    return {
        "command": command,
        "model": embedder.preset.architecture,
        "preset": embedder.preset.name,
        "weights_sha256": embedder.sha256,
        **embedder.defense_record,
        **({"defense_facts": embedder.records()} if isinstance(embedder, DefendedEmbedder) else {}),
        "recipe": recipe,
        "dataset": dataset.name if dataset else None,
        "dataset_version": dataset.version if dataset else None,
        "seed": seed,
        "versions": versions(),
        "started": clock.started,
        "seconds": clock.seconds,
    }


def whole(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """One result stands at the top of the file; several go under `models`."""
    return objects[0] if len(objects) == 1 else {"models": objects}
