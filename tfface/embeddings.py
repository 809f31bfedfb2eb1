"""A data set embedded once, cached by (weights, recipe, data set version)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tfface.alignment import DETECTOR, FaceTable, find_faces
from tfface.augmentation import Corruption, key_number
from tfface.console import note, progress
from tfface.data import FaceDataset
from tfface.errors import ImageError, UserError
from tfface.images import Recipe, crop_resize, decode
from tfface.store import Store

if TYPE_CHECKING:
    import tensorflow as tf

    from tfface.models.base import Embedder

BATCH = 64
_FORMAT = 1
NO_FACE = "no face found in it"
NO_BOX = "the data set gives no face box for it"


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of a data set, in the order of its keys.

    Attributes:
        vectors: float32 (N, D) unit vectors; zeros where the image failed.
        ok: bool (N,): the image could be embedded.
        failed: (key, reason) of those that could not.
    """

    vectors: np.ndarray
    ok: np.ndarray
    failed: list[tuple[str, str]]


def embed_dataset(
    dataset: FaceDataset,
    embedder: "Embedder",
    recipe: Recipe,
    *,
    flip: bool = False,
    corruption: Corruption | None = None,
) -> Embeddings:
    """Embeds every photograph of a data set, or takes it from the cache.

    A photograph that cannot be read, or in which the recipe's detector finds no face, is kept in
    the result as failed, with the reason.

    Args:
        dataset: what to embed.
        embedder: the model, with its preset's input size.
        recipe: how photographs are cropped.
        flip: add the embedding of the mirrored crop.
        corruption: of every crop, before the model sees it.
    """
    plain = _embed_once(dataset, embedder, recipe, corruption, mirrored=False)
    if not flip:
        return plain
    mirrored = _embed_once(dataset, embedder, recipe, corruption, mirrored=True)
    return Embeddings(_add_units(plain.vectors, mirrored.vectors), plain.ok, plain.failed)


def embed_images(embedder: "Embedder", images: np.ndarray, *, flip: bool = False) -> np.ndarray:
    """Embeds one batch of crops outside any data set.

    Args:
        embedder: the model.
        images: (N, S, S, 3) float32 in [0, 1].
        flip: add the embedding of the mirrored crops.

    Returns:
        (N, D) float32 unit vectors.
    """
    vectors = embedder.embed(images)
    return _add_units(vectors, embedder.embed(images[:, :, ::-1])) if flip else vectors


def _embed_once(
    dataset: FaceDataset, embedder: "Embedder", recipe: Recipe, corruption: Corruption | None, *, mirrored: bool
) -> Embeddings:
    fingerprint = {
        "format": _FORMAT,
        "preset": embedder.preset.name,
        "weights_sha256": embedder.sha256,
        "recipe": recipe.name,
        "detector": DETECTOR if recipe.source == "mtcnn" else None,
        "mirrored": mirrored,
        "dataset": dataset.name,
        "version": dataset.version,
    }
    if corruption:
        fingerprint["corruption"] = corruption.record()
    store = Store("embeddings", fingerprint, len(dataset.keys))

    def compute(missing: Sequence[tuple[int, int]], save: Callable[[tuple[int, int], pa.Table], None]) -> None:
        boxes = face_boxes(dataset, recipe)
        total = len(dataset.keys)
        done = total - sum(stop - start for start, stop in missing)

        def cut(start: int, stop: int) -> "tf.data.Dataset":
            size = embedder.preset.input_size
            return crops(dataset, recipe, size, start=start, stop=stop, boxes=boxes, corruption=corruption)

        batches = _embed_ranges(dataset, embedder, cut, mirrored, missing, save)
        label = f"embedding {'mirrored ' if mirrored else ''}with {embedder.preset.name}"
        label += f" under {corruption}" if corruption else ""
        for _ in progress(batches, total=total, done=done, label=label):
            pass

    store.fill(compute)
    return _from_table(dataset, store.read())


def _add_units(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The sums' directions; a row of zeros (a failed image) stays one."""
    total = first + second
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), np.float32(1e-12))


def crops(
    dataset: FaceDataset,
    recipe: Recipe,
    size: int,
    *,
    start: int = 0,
    stop: int | None = None,
    boxes: Sequence[np.ndarray | str] | None = None,
    corruption: Corruption | None = None,
) -> "tf.data.Dataset":
    """The data set's cropped photographs as a `tf.data` pipeline, in the order of its keys.

    Args:
        dataset: whose photographs.
        recipe: how they are cropped.
        size: side of a crop, in pixels.
        start: first index.
        stop: one past the last index; None for the end.
        boxes: for every key the face (x, y, width, height), or why there is none; found if absent.
        corruption: of every crop.

    Returns:
        Elements (crop float32 (size, size, 3) in [0, 1], reason: a string, empty where it went well).
    """
    import tensorflow as tf

    stop = len(dataset.keys) if stop is None else stop
    boxes = face_boxes(dataset, recipe) if boxes is None else boxes
    indices = tf.data.Dataset.range(start, stop)

    def cut(index: int, data: bytes) -> tuple[np.ndarray, np.ndarray, bytes]:
        face = boxes[index] if boxes else None
        try:
            pixels = decode(data)
            if isinstance(face, str):
                raise ImageError(face)
        except ImageError as error:
            return np.zeros((1, 1, 3), np.uint8), np.array([0, 0, 1, 1], np.float32), str(error).encode()
        return pixels, recipe.box(pixels.shape[0], pixels.shape[1], face), b""

    def crop(index: "tf.Tensor", element: dict[str, "tf.Tensor"]) -> tuple["tf.Tensor", "tf.Tensor"]:
        pixels, box, reason = tf.numpy_function(cut, [index, element["image"]], [tf.uint8, tf.float32, tf.string])
        pixels, box = tf.ensure_shape(pixels, (None, None, 3)), tf.ensure_shape(box, (4,))
        return crop_resize(pixels, box, size), tf.ensure_shape(reason, ())

    pairs = tf.data.Dataset.zip(indices, dataset.encoded(start, stop))
    cropped = pairs.map(crop, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if corruption is None:
        return cropped
    change = corruption.change()
    numbers = tf.data.Dataset.from_tensor_slices(
        np.array([key_number(key) for key in dataset.keys[start:stop]], np.int64)
    )
    return tf.data.Dataset.zip(cropped, numbers).map(
        lambda element, number: (change(element[0], number), element[1]), tf.data.AUTOTUNE, deterministic=True
    )


def crop_files(files: Sequence[bytes], recipe: Recipe, size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Crops a few photographs outside any data set, for `verify`.

    Args:
        files: image files' bytes.
        recipe: how they are cropped; `given` has no boxes here.
        size: side of a crop.

    Returns:
        Crops float32 (N, size, size, 3) in [0, 1], and the boxes cut out (x0, y0, x1, y1).

    Raises:
        ImageError: a file cannot be read, or has no face; the message begins with its position.
    """
    from tfface.alignment import choose_face, detect

    if recipe.source == "given":
        raise UserError(f"recipe {recipe.name} takes boxes from a data set; choose another for single photographs")
    photographs = []
    for position, data in enumerate(files):
        try:
            photographs.append(decode(data))
        except ImageError as error:
            raise ImageError(f"{position}: {error}") from error
    boxes = []
    found = detect(photographs) if recipe.source == "mtcnn" else [None] * len(photographs)
    for position, (pixels, faces) in enumerate(zip(photographs, found, strict=True)):
        face = None
        if faces is not None:
            chosen = choose_face(faces.boxes, *pixels.shape[:2])
            if chosen is None:
                raise ImageError(f"{position}: {NO_FACE}")
            face = faces.boxes[chosen]
        boxes.append(recipe.box(pixels.shape[0], pixels.shape[1], face))
    cut = [crop_resize(pixels, box, size).numpy() for pixels, box in zip(photographs, boxes, strict=True)]
    return np.stack(cut), boxes


def face_boxes(dataset: FaceDataset, recipe: Recipe) -> Sequence[np.ndarray | str] | None:
    """For every key the face that the recipe cuts out, or why there is none."""
    if recipe.source == "mtcnn":
        table: FaceTable = find_faces(dataset)
        return [reason or _or_no_face(table.main_face(index)) for index, reason in enumerate(table.failed)]
    if recipe.source == "given":
        if dataset.boxes is None:
            raise UserError(f"data set {dataset.name} gives no face boxes, which recipe {recipe.name} needs")
        return [NO_BOX if np.isnan(box).any() else box for box in dataset.boxes]
    return None


def _or_no_face(box: np.ndarray | None) -> np.ndarray | str:
    return NO_FACE if box is None else box


def _embed_ranges(
    dataset: FaceDataset,
    embedder: "Embedder",
    cut: Callable[[int, int], "tf.data.Dataset"],
    mirrored: bool,
    ranges: Sequence[tuple[int, int]],
    save: Callable[[tuple[int, int], pa.Table], None],
) -> Iterator[int]:
    """Embeds shard by shard; yields once an image.

    Neighbouring shards share one pipeline, so that it runs dry only at its end. Batches never
    straddle a shard.
    """
    import tensorflow as tf

    for run in _runs(ranges):
        batches = iter(cut(run[0][0], run[-1][1]).batch(BATCH).prefetch(tf.data.AUTOTUNE))
        for start, stop in run:
            vectors: list[np.ndarray] = []
            reasons: list[str] = []
            while len(reasons) < stop - start:
                images, reason = next(batches)
                vectors.append(embedder.embed(images[:, :, ::-1] if mirrored else images))
                reasons.extend(value.decode() for value in reason.numpy())
                yield from range(len(reason))
            save((start, stop), _to_table(dataset.keys[start:stop], np.concatenate(vectors), reasons))


def _runs(ranges: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Ranges that follow on each other, together, as long as batches end where they do."""
    run: list[tuple[int, int]] = []
    for part in ranges:
        if run and (run[-1][1] != part[0] or (part[0] - run[0][0]) % BATCH):
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def _to_table(keys: Sequence[str], vectors: np.ndarray, reasons: list[str]) -> pa.Table:
    ok = np.array([not reason for reason in reasons])
    vectors = np.where(ok[:, None], vectors, np.float32(0)).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise UserError("the model gives embeddings that are not finite: its weights are damaged or not its own")
    return pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "failed": pa.array(reasons, pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    )


def _from_table(dataset: FaceDataset, table: pa.Table) -> Embeddings:
    reasons = table["failed"].to_pylist()
    column = table["embedding"].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(reasons), -1)
    failed = [(key, reason) for key, reason in zip(dataset.keys, reasons, strict=True) if reason]
    return Embeddings(vectors, np.array([not reason for reason in reasons]), failed)


def report_failures(failed: Sequence[tuple[str, str]], total: int, *, strict: bool) -> None:
    """Names the photographs that failed on stderr; the rest go on.

    Raises:
        UserError: every photograph failed, or one did and `strict`.
    """
    shown = 10
    for key, reason in failed[:shown]:
        note(f"{key} {reason}")
    if len(failed) > shown:
        note(f"... and {len(failed) - shown} more photographs failed")
    first = " ".join(failed[0]) if failed else ""
    if failed and len(failed) == total:
        raise UserError(f"none of the {total} photographs could be used; the first: {first}")
    if failed and strict:
        raise UserError(f"{len(failed)} of {total} photographs failed and --strict is set: {first}")
