"""Verification: do two photographs show one person?"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.errors import ImageError
from tfface.evaluation.embeddings import embed_images, with_flip
from tfface.metrics.distances import cosine_distance, from_cosine
from tfface.models._embedder import as_embedder
from tfface.preprocessing.images import crop_files
from tfface.preprocessing.images import recipe as named_recipe
from tfface.utils.public import Clock, Result, Table, run_record

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder


@dataclass(frozen=True)
class Verdict:
    """Decision on a pair of embeddings.

    Attributes:
        metric: `cosine` or `euclidean`.
        distance: of the two embeddings, in that metric.
        threshold: distance up to which the two are the same person.
    """

    metric: str
    distance: float
    threshold: float

    @classmethod
    def of(cls, vectors: np.ndarray, metric: str, threshold: float) -> "Verdict":
        """Decide on two unit vectors.

        Args:
            vectors: (2, D) unit vectors.
            metric: `cosine` or `euclidean`.
            threshold: distance in that metric.
        """
        return cls(metric, float(from_cosine(cosine_distance(vectors[:1], vectors[1:])[0], metric)), threshold)

    @property
    def same(self) -> bool:
        """True where the distance is at or below the threshold."""
        return self.distance <= self.threshold

    def __str__(self) -> str:
        return "same person" if self.same else "different people"

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of `metrics.json`."""
        return {"metric": self.metric, "distance": self.distance, "threshold": self.threshold, "same": self.same}

    def cells(self) -> list[str]:
        """Return the cells of a table: metric, distance, threshold, verdict."""
        return [self.metric, f"{self.distance:.4f}", f"{self.threshold:.4f}", str(self)]


class DecidedResult(Result):
    """Result with a verdict on two photographs."""

    verdict: Verdict

    @property
    def same(self) -> bool:
        """True where the two photographs show one person."""
        return self.verdict.same

    @property
    def distance(self) -> float:
        """Distance of the two embeddings, in the preset's metric."""
        return self.verdict.distance

    @property
    def threshold(self) -> float:
        """Distance up to which the two are the same person."""
        return self.verdict.threshold


@dataclass(frozen=True)
class Verification(DecidedResult):
    """Result of the verification of two photographs.

    Attributes:
        photographs: the two files.
        verdict: distance, threshold and decision.
        boxes: cut out of each photograph: (x0, y0, x1, y1) in its pixels.
        record: model, recipe, time: the head of `metrics.json`.
    """

    photographs: tuple[Path, Path]
    verdict: Verdict
    boxes: list[np.ndarray]
    record: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        boxes = [[round(float(value), 2) for value in box] for box in self.boxes]
        return {**self.record, **self.verdict.to_dict(), "boxes": boxes}

    def tables(self) -> list[Table]:
        names = ", ".join(path.name for path in self.photographs)
        return [
            Table(
                ["photographs", "model", "recipe", "metric", "distance", "threshold", "verdict"],
                [[names, self.record["preset"], self.record["recipe"], *self.verdict.cells()]],
            )
        ]

    def save_files(self, folder: Path) -> list[str]:
        from tfface.report.pictures import draw_photographs, save_picture

        metric, distance, threshold, verdict = self.verdict.cells()
        caption = f"{self.record['preset']}: {metric} distance {distance}, threshold {threshold}: {verdict}"
        photographs = [path.read_bytes() for path in self.photographs]
        save_picture(draw_photographs(photographs, self.boxes, caption), folder / "verify.png")
        return ["verify.png"]


def verify(
    embedder: "str | Embedder",
    first: str | Path,
    second: str | Path,
    *,
    recipe: str | None = None,
    threshold: float | None = None,
    far: float | None = None,
    flip: bool = False,
    offline: bool = False,
) -> Verification:
    """Verify whether two photographs show one person.

    Args:
        embedder: a model, its name or its file.
        first: path of a photograph.
        second: path of the other.
        recipe: crop recipe; the preset's by default.
        threshold: distance up to which the two match, in the preset's metric; the preset's by default.
        far: use the threshold calibrated at this false accept rate instead (`tfface.calibrate`).
        flip: add the mirrored photographs' embeddings.
        offline: never touch a network.

    Returns:
        Distance, threshold and verdict, and the boxes that were cut out.

    Raises:
        UserError: a photograph cannot be read or has no face; names it.

    Example:
        >>> import tfface
        >>> tfface.verify("facenet", "a.jpg", "b.jpg").same  # doctest: +SKIP
        True
    """
    clock, model, paths = Clock(), as_embedder(embedder, offline=offline), (Path(first), Path(second))
    preset = model.preset
    chosen = named_recipe(recipe or preset.recipe)
    metric, limit, _ = preset.decide(threshold, far, with_flip(chosen.name, flip=flip))
    try:
        images, boxes = crop_files([path.read_bytes() for path in paths], chosen, preset.input_size)
    except ImageError as error:
        position, _, reason = str(error).partition(": ")
        raise ImageError(f"{paths[int(position)]}: {reason}") from error
    verdict = Verdict.of(embed_images(model, images, flip=flip), metric, limit)
    record = {**run_record("verify", model, chosen.name, None, 0, clock), "flip": flip}
    return Verification(paths, verdict, boxes, record)
