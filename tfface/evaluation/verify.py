"""Verification: do two photographs show one person?"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.errors import ImageError, UserError
from tfface.evaluation.embeddings import embed_images, with_flip
from tfface.metrics.distances import cosine_distance, from_cosine
from tfface.models._embedder import as_embedder
from tfface.preprocessing.images import FaceChoice, crop_faces
from tfface.preprocessing.images import recipe as named_recipe
from tfface.utils.public import Clock, Result, Table, run_record, user_path

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder

logger = logging.getLogger(__name__)


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
        faces: which face of how many was taken of each; empty for recipes without a detector.
    """

    photographs: tuple[Path, Path]
    verdict: Verdict
    boxes: list[np.ndarray]
    record: dict[str, Any] = field(default_factory=dict)
    faces: list[FaceChoice] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        boxes = [[round(float(value), 2) for value in box] for box in self.boxes]
        chosen = {"face": [face.number for face in self.faces], "faces": [face.count for face in self.faces]}
        return {**self.record, **self.verdict.to_dict(), "boxes": boxes, **(chosen if self.faces else {})}

    def tables(self) -> list[Table]:
        names = ", ".join(path.name for path in self.photographs)
        source = self.record.get("threshold_source", "given")
        return [
            Table(
                ["photographs", "model", "recipe", "metric", "distance", "threshold", "verdict"],
                [[names, self.record["preset"], self.record["recipe"], *self.verdict.cells()]],
                notes=[f"the threshold: {source}"] if source != "given" else [],
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
    face: int | Sequence[int] = (),
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
        face: where a photograph shows several, the face to take, counted from the left, the first being 1; one number
            for both photographs or one for each. The largest, most central one by default.
        offline: never touch a network.

    Returns:
        Distance, threshold and verdict, and the boxes that were cut out.

    Raises:
        UserError: a photograph cannot be read, has no face, or none of that number; names it.

    Example:
        >>> import tfface
        >>> tfface.verify("facenet", "a.jpg", "b.jpg").same  # doctest: +SKIP
        True
    """
    clock, model, paths = Clock(), as_embedder(embedder, offline=offline), (user_path(first), user_path(second))
    preset = model.preset
    chosen = named_recipe(recipe or preset.recipe)
    metric, limit, source = preset.decide(threshold, far, with_flip(chosen.name, flip=flip))
    wanted = (face,) if isinstance(face, int) else tuple(face)
    if len(wanted) > len(paths) or min(wanted, default=1) < 1:
        raise UserError("`face` is one number from 1 for both photographs, or one for each", parameter="face")
    if wanted and chosen.source != "mtcnn":
        raise UserError(f"`face` goes with a recipe that finds faces; {chosen.name} does not", parameter="face")
    try:
        images, boxes, faces = crop_faces([path.read_bytes() for path in paths], chosen, preset.input_size, wanted)
    except ImageError as error:
        position, _, reason = str(error).partition(": ")
        raise ImageError(f"{paths[int(position)]}: {reason}") from error
    verdict = Verdict.of(embed_images(model, images, flip=flip), metric, limit)
    record = {**run_record("verify", model, chosen.name, None, 0, clock), "flip": flip, "threshold_source": source}
    if not wanted:
        _mention(paths, faces)
    return Verification(paths, verdict, boxes, record, faces)


def _mention(paths: Sequence[Path], faces: Sequence[FaceChoice]) -> None:
    """Log which face was taken of a photograph that shows several."""
    for path, choice in zip(paths, faces, strict=False):
        if choice.count > 1:
            logger.warning(
                f"{path} shows {choice.count} faces: number {choice.number} from the left was taken, the largest "
                "and most central; `face` takes another"
            )
