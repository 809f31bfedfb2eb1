"""Photographs through an artifact without TensorFlow: decoded and cropped by OpenCV and NumPy."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfface.artifacts.artifact import Artifact, open_reader, reader_recipe
from tfface.data.folder import open_photographs
from tfface.errors import ImageError, UserError
from tfface.evaluation.embeddings import Embeddings, FolderEmbeddings, embed_images, report_failures, with_flip
from tfface.evaluation.verify import Verdict, Verification
from tfface.preprocessing.images import GivenFaces, Recipe, crop_boxed, face_of, given_faces
from tfface.utils.progress import progress
from tfface.utils.public import Clock, run_record, user_path

if TYPE_CHECKING:
    from tfface.data.dataset import FaceDataset
    from tfface.models._embedder import Embedder


def verify(
    artifact: str | Path | Artifact,
    first: str | Path,
    second: str | Path,
    *,
    recipe: str | None = None,
    boxes: str | Path | None = None,
    points: str | Path | None = None,
    threshold: float | None = None,
    far: float | None = None,
    flip: bool = False,
) -> Verification:
    """Verify through a TFLite artifact whether two photographs show one person, as `tfface.verify` does.

    Args:
        artifact: path of the artifact.
        first: path of a photograph.
        second: path of the other.
        recipe: crop recipe; the artifact's by default.
        boxes: CSV file `image,x,y,width,height` of faces in pixels.
        points: CSV file `image,x0,y0,...,x4,y4` of five points a face in pixels, for recipes that align by them.
        threshold: distance up to which the two match, in the preset's metric; the preset's by default.
        far: use the threshold calibrated at this false accept rate instead (`tfface.calibrate`).
        flip: add the mirrored photographs' embeddings.

    Raises:
        UserError: a photograph cannot be read or has no face; names it.
    """
    clock, opened, (given, faces) = Clock(), _opened(artifact), given_faces(boxes, points)
    chosen = reader_recipe(opened, recipe, given=given)
    embedder, preset = opened.embedder(), opened.preset
    metric, limit, source = preset.decide(threshold, far, with_flip(chosen.name, flip=flip))
    crops, cuts = [], []
    for path in (user_path(first), user_path(second)):
        try:
            crop, box = crop_boxed(path.read_bytes(), chosen, preset.input_size, face_of(faces, str(path), path.name))
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        crops.append(crop)
        cuts.append(box)
    verdict = Verdict.of(embed_images(embedder, np.stack(crops), flip=flip), metric, limit)
    record = {
        **run_record("verify", embedder, chosen.name, None, 0, clock),
        **opened.origin(),
        "flip": flip,
        "threshold_source": source,
    }
    return Verification((user_path(first), user_path(second)), verdict, cuts, record)


def embed(
    artifact: str | Path | Artifact,
    folder: str | Path,
    *,
    recipe: str | None = None,
    boxes: str | Path | None = None,
    points: str | Path | None = None,
    flip: bool = False,
    strict: bool = False,
) -> FolderEmbeddings:
    """Embed every photograph under a folder through a TFLite artifact, as `tfface.embed` does.

    Args:
        artifact: path of the artifact.
        folder: photographs, at any depth.
        recipe: crop recipe; the artifact's by default.
        boxes: CSV file `image,x,y,width,height` of faces in pixels.
        points: CSV file `image,x0,y0,...,x4,y4` of five points a face in pixels, for recipes that align by them.
        flip: add the mirrored photographs' embeddings.
        strict: stop if a photograph fails, instead of counting it.

    Raises:
        UserError: there is no image in the folder, or none can be embedded.
    """
    opened, (given, faces) = _opened(artifact), given_faces(boxes, points)
    chosen = reader_recipe(opened, recipe, given=given)
    photographs = open_photographs(user_path(folder))
    embeddings = embed_photographs(photographs, opened.embedder(), chosen, faces=faces, flip=flip)
    report_failures(embeddings.failed, len(photographs), strict=strict)
    origin = {"weights_sha256": opened.record["weights_sha256"], "artifact_sha256": opened.sha256}
    return FolderEmbeddings(photographs.keys, embeddings, opened.preset.name, chosen.name, origin)


def _opened(artifact: str | Path | Artifact) -> Artifact:
    return artifact if isinstance(artifact, Artifact) else open_reader(user_path(artifact))


def embed_photographs(
    photographs: "FaceDataset",
    embedder: "Embedder",
    chosen: Recipe,
    *,
    faces: GivenFaces | None = None,
    flip: bool = False,
) -> Embeddings:
    """Embed every photograph; one that cannot be read, or has no face where faces are given, is counted as failed.

    Args:
        photographs: photographs to embed.
        embedder: an artifact's.
        chosen: crop recipe.
        faces: faces by key, for recipes that take them.
        flip: add the mirrored photographs' embeddings.
    """
    vectors = np.zeros((len(photographs), embedder.preset.embedding_size), np.float32)
    failed = []
    label = f"embedding with {embedder.preset.name}"
    for row, key in enumerate(progress(photographs.keys, total=len(photographs), label=label)):
        try:
            crop, _ = crop_boxed(photographs.read(key), chosen, embedder.preset.input_size, face_of(faces, key))
        except UserError as error:
            failed.append((key, str(error)))
            continue
        vectors[row] = embed_images(embedder, crop[None], flip=flip)[0]
    failures = {key for key, _ in failed}
    return Embeddings(vectors, np.array([key not in failures for key in photographs.keys]), failed)
