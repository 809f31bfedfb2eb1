"""Crops that int8 takes the ranges of its activations from."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfface.data.crops import crop_stream
from tfface.data.dataset import FaceDataset
from tfface.errors import UserError
from tfface.preprocessing.images import Recipe
from tfface.training.split import split_people

IMAGES = 200


@dataclass(frozen=True, eq=False)
class Calibration:
    """Photographs to calibrate on, not read yet.

    Attributes:
        photographs: a part of a data set.
        rule: who may be in it, for a reader.
    """

    photographs: FaceDataset
    rule: str

    def record(self) -> dict[str, Any]:
        """JSON-able, for an artifact's record."""
        return {
            "dataset": self.photographs.name,
            "version": self.photographs.version,
            "photographs": len(self.photographs),
            "people": len(set(self.photographs.identities)),
            "rule": self.rule,
        }

    def images(self, cut: Recipe, size: int) -> np.ndarray:
        """Their crops, float32 (N, size, size, 3) in [0, 1]; photographs that cannot be read are left out.

        Raises:
            UserError: none can be read.
        """
        found = [crop.numpy() for crop, reason in crop_stream(self.photographs, cut, size) if not reason.numpy()]
        if not found:
            raise UserError(f"no photograph of {self.photographs.name} can be read to calibrate on")
        return np.stack(found)


def calibration_of(dataset: FaceDataset, *, images: int = IMAGES, seed: int = 0) -> Calibration:
    """A seeded draw of photographs; of LFW of nobody who validates or is held out.

    Args:
        dataset: LFW, or any other, whose people all may be drawn.
        images: how many at most.
        seed: of the draw.
    """
    allowed = np.arange(len(dataset))
    rule = f"all people of {dataset.name}"
    if dataset.name.split("/")[0] == "lfw":
        allowed = split_people(dataset).train
        rule = "no one of LFW View 2's folds 8, 9 and 10"
    chosen = np.sort(np.random.default_rng(seed).permutation(allowed)[:images])
    return Calibration(dataset.take(chosen, f"calibration-{images}-seed{seed}"), rule)
