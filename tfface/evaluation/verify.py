"""Two photographs, one verdict."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.errors import ImageError
from tfface.evaluation.embeddings import embed_images
from tfface.metrics.distances import cosine_distance, from_cosine
from tfface.preprocessing.images import recipe
from tfface.preprocessing.photographs import crop_files

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder


@dataclass(frozen=True)
class Verification:
    """The answer to "same person?" and all it depends on.

    Attributes:
        preset: the model.
        weights_sha256: of its weights.
        recipe: how the photographs were cropped.
        metric: `cosine` or `euclidean`.
        distance: between the two embeddings, in that metric.
        threshold: distances up to it mean "same person".
        boxes: what was cut out of each photograph: (x0, y0, x1, y1) in its pixels.
    """

    preset: str
    weights_sha256: str
    recipe: str
    metric: str
    distance: float
    threshold: float
    boxes: list[np.ndarray]

    @property
    def same(self) -> bool:
        return self.distance <= self.threshold

    def record(self) -> dict[str, Any]:
        """JSON-able, for `metrics.json`."""
        return {
            "metric": self.metric,
            "distance": self.distance,
            "threshold": self.threshold,
            "same": self.same,
            "boxes": [[round(float(value), 2) for value in box] for box in self.boxes],
        }


def verify(
    embedder: "Embedder",
    first: Path,
    second: Path,
    *,
    recipe_name: str | None = None,
    threshold: float | None = None,
    flip: bool = False,
) -> Verification:
    """Judges a pair of photographs.

    Args:
        embedder: the model.
        first: a photograph's path.
        second: another's.
        recipe_name: how they are cropped; the preset's if None.
        threshold: in the preset's metric; the preset's if None.
        flip: add the mirrored photographs' embeddings.

    Raises:
        UserError: a photograph cannot be read or has no face; names it.
    """
    preset = embedder.preset
    chosen = recipe(recipe_name or preset.recipe)
    paths = (first, second)
    try:
        images, boxes = crop_files([path.read_bytes() for path in paths], chosen, preset.input_size)
    except ImageError as error:
        position, _, reason = str(error).partition(": ")
        raise ImageError(f"{paths[int(position)]}: {reason}") from error
    vectors = embed_images(embedder, images, flip=flip)
    distance = float(from_cosine(cosine_distance(vectors[:1], vectors[1:])[0], preset.metric))
    return Verification(
        preset.name,
        embedder.sha256,
        chosen.name,
        preset.metric,
        distance,
        preset.threshold if threshold is None else threshold,
        boxes,
    )
