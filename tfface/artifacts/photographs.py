"""Photographs through an artifact without TensorFlow: decoded and cropped by OpenCV and NumPy."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfface.artifacts.artifact import Artifact, open_artifact
from tfface.data.folder import open_photographs
from tfface.errors import ImageError, UserError
from tfface.evaluation.embeddings import Embeddings, FolderEmbeddings, embed_images, report_failures
from tfface.evaluation.verify import Verdict, Verification
from tfface.preprocessing.images import Recipe, crop_array, decode
from tfface.preprocessing.images import recipe as named_recipe
from tfface.preprocessing.photographs import crop_photograph
from tfface.utils.progress import progress
from tfface.utils.result import Clock, run_record

if TYPE_CHECKING:
    from tfface.data.dataset import FaceDataset
    from tfface.models._embedder import Embedder

Boxes = Mapping[str, np.ndarray]
"""Face boxes (x, y, width, height) in pixels by image."""

NO_BOX = "has no box in the file of boxes"


def read_boxes(path: Path) -> Boxes:
    """Reads a CSV file `image,x,y,width,height`, with that header; pixels of the upright photograph.

    Raises:
        UserError: the file cannot be read, or a line is none of these.
    """
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not rows or [cell.strip() for cell in rows[0]] != ["image", "x", "y", "width", "height"]:
        raise UserError(f"{path} must begin with the line image,x,y,width,height")
    boxes = {}
    for number, row in enumerate(rows[1:], start=2):
        try:
            image, *values = row
            box = np.array(values, np.float64)
        except ValueError:
            box = np.zeros(0)
        if box.shape != (4,) or not np.isfinite(box).all() or box[2:].min() <= 0:
            raise UserError(f"{path}:{number} is not an image and four numbers x,y,width,height")
        boxes[image] = box
    return boxes


def in_fractions(box: Sequence[float] | np.ndarray, image: bytes) -> list[float]:
    """A face (x, y, width, height) in pixels as a server takes it: y0, x0, y1, x1, the photograph's sides being 1.

    Raises:
        ImageError: the photograph cannot be read here, so that its sides are not known.
    """
    height, width = decode(image).shape[:2]
    x, y, wide, high = (float(value) for value in box)
    return [y / height, x / width, (y + high) / height, (x + wide) / width]


def open_reader(path: Path) -> Artifact:
    """A TFLite artifact.

    Raises:
        UserError: it is none, is not what was exported, or is a SavedModel.
    """
    artifact = open_artifact(path)
    if artifact.format != "tflite":
        raise UserError(f"{path} is a SavedModel, which only TensorFlow reads: give a .tflite file")
    return artifact


def reader_recipe(artifact: Artifact, name: str | None, *, boxed: bool) -> Recipe:
    """How photographs are cropped for an artifact here, where no detector runs.

    Args:
        artifact: whose own recipe is taken where none is named.
        name: the recipe that was asked for.
        boxed: whether face boxes are given; the margin is then that of the preset's recipe.

    Raises:
        UserError: the recipe needs faces and there are none, or has no use for them.
    """
    if not boxed:
        chosen = named_recipe(name or artifact.recipe)
        if chosen.source != "image":
            raise UserError(
                f"recipe {chosen.name} needs faces, and without TensorFlow none are looked for: give `boxes`, "
                "a fixed recipe (whole, center-140), or an embedder instead of an artifact"
            )
        return chosen
    chosen = named_recipe(name or artifact.preset.recipe)
    if chosen.source == "image":
        if name:
            raise UserError(f"recipe {name} takes no faces: leave out `boxes` or `recipe`")
        return named_recipe("given-margin0.0")
    return named_recipe(chosen.name.replace("mtcnn-v1-", "given-"))


def cut(data: bytes, chosen: Recipe, size: int, face: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Crop one photograph without TensorFlow: float32 (size, size, 3) in [0, 1], and the box cut out (x0, y0, x1, y1).

    Raises:
        ImageError: the file cannot be read, or its face lies outside of it.
    """
    crop, box = crop_photograph(data, chosen, size, face, resize=crop_array)
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ImageError("has a face box that lies outside of it")
    return crop, box


def verify(
    artifact: str | Path | Artifact,
    first: str | Path,
    second: str | Path,
    *,
    recipe: str | None = None,
    boxes: str | Path | None = None,
    threshold: float | None = None,
    flip: bool = False,
) -> Verification:
    """Verify through a TFLite artifact whether two photographs show one person, as `tfface.verify` does.

    Args:
        artifact: path of the artifact.
        first: path of a photograph.
        second: path of the other.
        recipe: crop recipe; the artifact's by default.
        boxes: CSV file `image,x,y,width,height` of faces in pixels.
        threshold: distance up to which the two match, in the preset's metric; the preset's by default.
        flip: add the mirrored photographs' embeddings.

    Raises:
        UserError: a photograph cannot be read or has no box; names it.
    """
    clock, opened, faces = Clock(), _opened(artifact), read_boxes(Path(boxes)) if boxes else None
    chosen = reader_recipe(opened, recipe, boxed=faces is not None)
    embedder, preset = opened.embedder(), opened.preset
    crops, cuts = [], []
    for path in (Path(first), Path(second)):
        try:
            crop, box = cut(path.read_bytes(), chosen, preset.input_size, _face(faces, str(path), path.name))
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        crops.append(crop)
        cuts.append(box)
    limit = preset.threshold if threshold is None else threshold
    verdict = Verdict.of(embed_images(embedder, np.stack(crops), flip=flip), preset.metric, limit)
    record = {**run_record("verify", embedder, chosen.name, None, 0, clock), **opened.origin(), "flip": flip}
    return Verification((Path(first), Path(second)), verdict, cuts, record)


def embed(
    artifact: str | Path | Artifact,
    folder: str | Path,
    *,
    recipe: str | None = None,
    boxes: str | Path | None = None,
    flip: bool = False,
    strict: bool = False,
) -> FolderEmbeddings:
    """Embed every photograph under a folder through a TFLite artifact, as `tfface.embed` does.

    Args:
        artifact: path of the artifact.
        folder: photographs, at any depth.
        recipe: crop recipe; the artifact's by default.
        boxes: CSV file `image,x,y,width,height` of faces in pixels.
        flip: add the mirrored photographs' embeddings.
        strict: stop if a photograph fails, instead of counting it.

    Raises:
        UserError: there is no image in the folder, or none can be embedded.
    """
    opened, faces = _opened(artifact), read_boxes(Path(boxes)) if boxes else None
    chosen = reader_recipe(opened, recipe, boxed=faces is not None)
    photographs = open_photographs(Path(folder))
    embeddings = embed_photographs(photographs, opened.embedder(), chosen, boxes=faces, flip=flip)
    report_failures(embeddings.failed, len(photographs), strict=strict)
    origin = {"weights_sha256": opened.record["weights_sha256"], "artifact_sha256": opened.sha256}
    return FolderEmbeddings(photographs.keys, embeddings, opened.preset.name, chosen.name, origin)


def _opened(artifact: str | Path | Artifact) -> Artifact:
    return artifact if isinstance(artifact, Artifact) else open_reader(Path(artifact))


def embed_photographs(
    photographs: "FaceDataset",
    embedder: "Embedder",
    chosen: Recipe,
    *,
    boxes: Boxes | None = None,
    flip: bool = False,
) -> Embeddings:
    """Embeds every photograph; one that cannot be read, or has no box where boxes are given, is kept as failed.

    Args:
        photographs: what to embed.
        embedder: an artifact's.
        chosen: how they are cropped.
        boxes: faces by key, for recipes that take them.
        flip: add the mirrored photographs' embeddings.
    """
    vectors = np.zeros((len(photographs), embedder.preset.embedding_size), np.float32)
    failed = []
    label = f"embedding with {embedder.preset.name}"
    for row, key in enumerate(progress(photographs.keys, total=len(photographs), label=label)):
        try:
            crop, _ = cut(photographs.read(key), chosen, embedder.preset.input_size, _face(boxes, key))
        except UserError as error:
            failed.append((key, str(error)))
            continue
        vectors[row] = embed_images(embedder, crop[None], flip=flip)[0]
    failures = {key for key, _ in failed}
    return Embeddings(vectors, np.array([key not in failures for key in photographs.keys]), failed)


def _face(boxes: Boxes | None, *names: str) -> np.ndarray | None:
    if boxes is None:
        return None
    for name in names:
        if name in boxes:
            return boxes[name]
    raise ImageError(NO_BOX)
