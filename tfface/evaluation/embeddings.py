"""Embed a data set or a folder once; embeddings are cached by weights, recipe and data set version."""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tfface.augmentation.changes import Corruption
from tfface.data.crops import crop_fingerprint, crop_stream, detect_faces, main_faces
from tfface.data.dataset import FaceDataset
from tfface.data.folder import open_photographs
from tfface.distributed.cluster import executor_at
from tfface.distributed.rows import LOCAL, Executor, RowJob, Save, fill
from tfface.metrics.distances import unit
from tfface.models._embedder import as_embedder
from tfface.preprocessing.images import Recipe
from tfface.preprocessing.images import recipe as named_recipe
from tfface.utils.cache import MOST_IN_MEMORY, Range, Store, write_rows
from tfface.utils.files import atomic_write, user_path
from tfface.utils.public import Result, Table, UserError

if TYPE_CHECKING:
    import tensorflow as tf

    from tfface.models._embedder import Embedder

logger = logging.getLogger(__name__)

BATCH = 64
_LONGEST_RUN = 64
"""Shards in one pipeline: what it knows of their faces is held meanwhile."""
_FORMAT = 1


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a data set, in the order of its keys.

    Attributes:
        vectors: float32 (N, D) unit vectors; zeros where the image failed. A memory map if they are large.
        ok: bool (N,), True where the image could be embedded.
        failed: key and reason of each image that could not.
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
    executor: Executor = LOCAL,
) -> Embeddings:
    """Embed every photograph of a data set, or take it from the cache.

    A photograph that cannot be read, or in which the recipe's detector finds no face, is listed as failed, with the
    reason.

    Args:
        dataset: photographs to embed.
        embedder: the model.
        recipe: crop recipe.
        flip: add the embedding of the mirrored crop.
        corruption: applied to every crop before the model sees it.
        executor: this process, or a cluster.
    """
    plain = _embed_once(dataset, embedder, recipe, corruption, mirrored=False, executor=executor)
    if not flip:
        return _read(dataset, plain)
    return _read(dataset, plain, _embed_once(dataset, embedder, recipe, corruption, mirrored=True, executor=executor))


def with_flip(recipe: str, *, flip: bool) -> str:
    """Return the name of a recipe, as tables have it where mirrored photographs are added."""
    return f"{recipe}+flip" if flip else recipe


def embed_images(embedder: "Embedder", images: np.ndarray, *, flip: bool = False) -> np.ndarray:
    """Embed one batch of crops outside any data set.

    Args:
        embedder: the model.
        images: (N, S, S, 3) float32 RGB in [0, 1].
        flip: add the embedding of the mirrored crops.

    Returns:
        (N, D) float32 unit vectors.
    """
    vectors = embedder.embed(images)
    return unit(vectors + embedder.embed(images[:, :, ::-1])) if flip else vectors


@dataclass(frozen=True)
class FolderEmbeddings(Result):
    """Embeddings of the photographs in a folder.

    Attributes:
        keys: path below the folder of every photograph, sorted.
        embeddings: one for each key.
        preset: name of the model.
        recipe: name of the crop recipe.
        origin: `weights_sha256`, and `artifact_sha256` where an artifact embedded.
    """

    keys: Sequence[str]
    embeddings: Embeddings
    preset: str
    recipe: str
    origin: Mapping[str, str]

    def __str__(self) -> str:
        found = self.embeddings
        return (
            f"{found.ok.sum()} embeddings of {found.vectors.shape[1]} values by {self.preset}, "
            f"{len(found.failed)} photographs failed"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "preset": self.preset,
            **self.origin,
            "recipe": self.recipe,
            "photographs": len(self.keys),
            "embedded": int(self.embeddings.ok.sum()),
            "failures": [{"image": key, "reason": reason} for key, reason in self.embeddings.failed],
        }

    def tables(self) -> list[Table]:
        found = self.to_dict()
        counts = [str(found["photographs"]), str(found["embedded"]), str(len(found["failures"]))]
        columns = ["model", "recipe", "photographs", "embedded", "failed", "values"]
        return [Table(columns, [[self.preset, self.recipe, *counts, str(self.embeddings.vectors.shape[1])]])]

    def save_files(self, folder: Path) -> list[str]:
        self.write(folder / "embeddings.npz")
        return ["embeddings.npz"]

    def write(self, path: Path) -> None:
        """Write the arrays into one .npz file, which `numpy.load` reads with `allow_pickle=False`."""
        write_embeddings(path, self.keys, self.embeddings, preset=self.preset, recipe=self.recipe, **self.origin)


def write_embeddings(path: Path, keys: Sequence[str], embeddings: Embeddings, **more: str) -> None:
    """Write `keys` and `embeddings` of the photographs that were embedded, `failed_keys`, `failed_reasons` as .npz.

    Args:
        path: of the file.
        keys: names of all photographs.
        embeddings: one for each key.
        more: further entries.
    """
    arrays: dict[str, Any] = {name: np.array(value) for name, value in more.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            keys=np.array(keys)[embeddings.ok],
            embeddings=embeddings.vectors[embeddings.ok],
            failed_keys=np.array([key for key, _ in embeddings.failed], dtype=str),
            failed_reasons=np.array([reason for _, reason in embeddings.failed], dtype=str),
            **arrays,
        )


def embed(
    folder: str | Path,
    *,
    embedder: "str | Embedder" = "facenet",
    recipe: str | None = None,
    flip: bool = False,
    strict: bool = False,
    offline: bool = False,
    cluster: str | None = None,
) -> FolderEmbeddings:
    """Embed every photograph under a folder.

    Args:
        folder: photographs, at any depth.
        embedder: a model, its name or its file.
        recipe: crop recipe; the preset's by default.
        flip: add the mirrored photographs' embeddings.
        strict: stop if a photograph fails, instead of counting it.
        offline: never touch a network.
        cluster: work on a Ray cluster: `auto`, `ray://HOST:PORT` or `local:N`.

    Returns:
        Keys, people and embeddings, (N, D) float32 unit vectors, and the photographs that failed.

    Raises:
        UserError: there is no image in the folder, or none can be embedded.

    Example:
        >>> import tfface
        >>> found = tfface.embed("photographs", embedder="facenet")  # doctest: +SKIP
        >>> found.embeddings.vectors.shape  # doctest: +SKIP
        (118, 128)
    """
    model = as_embedder(embedder, offline=offline)
    chosen = named_recipe(recipe or model.preset.recipe)
    photographs = open_photographs(user_path(folder))
    with executor_at(cluster) as executor:
        embeddings = embed_dataset(photographs, model, chosen, flip=flip, executor=executor)
    report_failures(embeddings.failed, len(photographs), strict=strict)
    origin = {"weights_sha256": model.sha256}
    return FolderEmbeddings(photographs.keys, embeddings, model.preset.name, chosen.name, origin)


def _embed_once(
    dataset: FaceDataset,
    embedder: "Embedder",
    recipe: Recipe,
    corruption: Corruption | None,
    *,
    mirrored: bool,
    executor: Executor,
) -> Store:
    fingerprint = {"format": _FORMAT, "mirrored": mirrored, **crop_fingerprint(embedder, dataset, recipe)}
    if corruption:
        fingerprint["corruption"] = corruption.record()
    store = Store("embeddings", fingerprint, len(dataset.keys))
    if not store.missing():
        return store
    if recipe.source == "mtcnn":
        detect_faces(dataset, executor=executor)
    label = f"embedding {'mirrored ' if mirrored else ''}with {embedder.preset.name}"
    label += f" behind {' and '.join(embedder.defense)}" if embedder.defense else ""
    label += f" under {corruption}" if corruption else ""
    fill(_Embedding(store, dataset, embedder, recipe, corruption, mirrored), label=label, executor=executor)
    return store


@dataclass(frozen=True, eq=False)
class _Embedding(RowJob):
    """Embedding of a data set's photographs, as rows of a store."""

    store: Store
    dataset: FaceDataset
    embedder: "Embedder"
    recipe: Recipe
    corruption: Corruption | None
    mirrored: bool

    def prepare(self) -> None:
        self.dataset.check_at_hand()
        self.embedder.open()  # a worker that lacks the weights says so before it begins

    def check(self) -> None:
        self.dataset.check_unchanged()

    def compute(self, parts: Sequence[Range], given_up: Mapping[int, str], save: Save) -> Iterator[int]:
        """Embed shard by shard; neighbours share one pipeline, so that it runs dry only at its end."""
        import tensorflow as tf

        for run in _runs(parts):
            batches = iter(self._crops(run[0][0], run[-1][1], given_up).batch(BATCH).prefetch(tf.data.AUTOTUNE))
            for start, stop in run:
                vectors: list[np.ndarray] = []
                reasons: list[str] = []
                while len(reasons) < stop - start:
                    images, reason = next(batches)
                    vectors.append(self.embedder.embed(images[:, :, ::-1] if self.mirrored else images))
                    reasons.extend(value.decode() for value in reason.numpy())
                    yield len(reason)
                save((start, stop), _to_table(self.dataset.keys[start:stop], np.concatenate(vectors), reasons))

    def _crops(self, start: int, stop: int, given_up: Mapping[int, str]) -> "tf.data.Dataset":
        faces = main_faces(self.dataset, self.recipe, start, stop)
        return crop_stream(
            self.dataset,
            self.recipe,
            self.embedder.preset.input_size,
            start=start,
            stop=stop,
            faces=None if faces is None else dict(enumerate(faces, start=start)),
            corruption=self.corruption,
            given_up=given_up,
        )


def _runs(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """Group ranges that follow on each other, as long as batches end where they do."""
    run: list[Range] = []
    for part in ranges:
        if run and (run[-1][1] != part[0] or (part[0] - run[0][0]) % BATCH or len(run) == _LONGEST_RUN):
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


def _read(dataset: FaceDataset, store: Store, mirrored: Store | None = None) -> Embeddings:
    """Read a data set's embeddings; large matrices stay on disk.

    Args:
        dataset: photographs that were embedded.
        store: their embeddings.
        mirrored: embeddings of the mirrored crops, to be added.
    """
    reasons: list[str] = []

    def vectors() -> Iterator[np.ndarray]:
        for own, other in zip(store.tables(), mirrored.tables() if mirrored else itertools.repeat(None), strict=False):
            reasons.extend(own["failed"].to_pylist())
            yield _vectors(own) if other is None else unit(_vectors(own) + _vectors(other))

    found = vectors()
    first = next(found)
    shape = (len(dataset), first.shape[1])
    every = itertools.chain([first], found)
    if shape[0] * shape[1] * 4 > MOST_IN_MEMORY:
        matrix = write_rows((mirrored or store).folder / "embeddings.f32", every, shape).mapped()
    else:
        matrix = np.concatenate(list(every))
    failed = [(key, reason) for key, reason in zip(dataset.keys, reasons, strict=True) if reason]
    return Embeddings(matrix, np.array([not reason for reason in reasons]), failed)


def _vectors(table: pa.Table) -> np.ndarray:
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(table.num_rows, -1)


def report_failures(failed: Sequence[tuple[str, str]], total: int, *, strict: bool) -> None:
    """Log the photographs that failed.

    Raises:
        UserError: every photograph failed, or one did and `strict` is set.
    """
    shown = 10
    for key, reason in failed[:shown]:
        logger.warning(f"{key} {reason}")
    if len(failed) > shown:
        logger.warning(f"... and {len(failed) - shown} more photographs failed")
    elif failed:
        logger.warning(f"{len(failed)} of {total} photographs failed")
    first = " ".join(failed[0]) if failed else ""
    if failed and len(failed) == total:
        raise UserError(f"none of the {total} photographs could be used; the first: {first}")
    if failed and strict:
        raise UserError(f"{len(failed)} of {total} photographs failed and `strict` is set: {first}", parameter="strict")
