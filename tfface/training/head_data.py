"""Training and test photographs of a head: a few people, and copies to fill up."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tfface.augmentation.changes import PAPER, augment_batch, key_number
from tfface.data.crops import Crops
from tfface.errors import UserError
from tfface.evaluation.inputs import FaceDataset, Recipe
from tfface.preprocessing.mtcnn import DETECTOR
from tfface.utils.cache import Store
from tfface.utils.files import digest_of
from tfface.utils.progress import progress

if TYPE_CHECKING:
    from tfface.evaluation.inputs import Embedder

PEOPLE = 6
PHOTOGRAPHS = 200
TEST_SHARE = 0.25
FEWEST = 4
"""Least number of photographs of a person of a head."""
_SHARD_ROWS = 256
"""Copies are made a shard at a time, since a pipeline for them takes half a second to build."""
_BATCH = 64
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class HeadData:
    """Photographs of a head's people: for training and, split off before any copy, for test.

    Attributes:
        people: in the order of the labels.
        train: (T,) int, ascending, indices into the data set's keys.
        test: (S,) int, ascending, likewise; none of them is in `train`.
        copies: (C,) int, the training photograph that each augmented copy is made of.
        seed: of the draw and of the copies.
    """

    people: tuple[str, ...]
    train: np.ndarray
    test: np.ndarray
    copies: np.ndarray
    seed: int

    def labels(self, dataset: FaceDataset, indices: np.ndarray) -> np.ndarray:
        """Return the person on each photograph, as a position in `people`: (N,) int."""
        place = {person: label for label, person in enumerate(self.people)}
        return np.array([place[dataset.identities[index]] for index in indices], np.int64)

    def record(self, dataset: FaceDataset) -> dict[str, Any]:
        """Return all that decides the head's data, JSON-able."""
        return {
            "people": list(self.people),
            "train": [dataset.keys[index] for index in self.train],
            "test": [dataset.keys[index] for index in self.test],
            "copies": [dataset.keys[index] for index in self.copies],
            "augmentation": list(PAPER),
            "draw_seed": self.seed,
        }

    @classmethod
    def of(cls, record: dict[str, Any], dataset: FaceDataset) -> "HeadData":
        """Find the photographs of a record.

        Raises:
            UserError: the data set lacks a photograph, or the record is none.
        """
        try:
            train, test, copies = (
                np.array([dataset.position(key) for key in record[name]], np.int64)
                for name in ("train", "test", "copies")
            )
            return cls(tuple(record["people"]), train, test, copies, int(record["draw_seed"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the head does not say which photographs trained it: train one anew ({error})") from error


def head_data(
    dataset: FaceDataset,
    *,
    people: int = PEOPLE,
    photographs: int = PHOTOGRAPHS,
    test_share: float = TEST_SHARE,
    seed: int = 0,
) -> HeadData:
    """Choose the people with most photographs, as the paper's 1,200 images of six people.

    Test photographs are split off first. The rest, of each person, are filled up with augmented copies to
    what `photographs` would have left for training, so that all people weigh the same.

    Args:
        dataset: the photographs.
        people: how many; of equally many photographs the first by name.
        photographs: at most so many a person, drawn at random.
        test_share: of each person's photographs.
        seed: of the draw.

    Raises:
        UserError: too few people have photographs enough.
    """
    counts = Counter(dataset.identities)
    chosen = sorted(sorted(counts), key=lambda name: -counts[name])[:people]
    if len(chosen) < people or counts[chosen[-1]] < FEWEST:
        raise UserError(
            f"{dataset.name} has no {people} people of {FEWEST} photographs or more to train a head on: "
            "take a larger data set, or another goal"
        )
    random = np.random.default_rng(seed)
    rows: dict[str, list[int]] = {name: [] for name in chosen}
    for index, name in enumerate(dataset.identities):
        if name in rows:
            rows[name].append(index)
    train, test, copies = [], [], []
    for own in rows.values():
        drawn = random.permutation(own)[:photographs]
        cut = max(1, round(test_share * len(drawn)))
        test.append(np.sort(drawn[:cut]))
        train.append(np.sort(drawn[cut:]))
        missing = round((1 - test_share) * photographs) - len(train[-1])
        # Each photograph is copied as often as the others, give or take one.
        copies.append(np.resize(random.permutation(train[-1]), max(missing, 0)))
    return HeadData(
        tuple(chosen), np.sort(np.concatenate(train)), np.sort(np.concatenate(test)), np.concatenate(copies), seed
    )


@dataclass(frozen=True, eq=False)
class HeadVectors:
    """Embeddings of a head's data; rows of photographs that could not be cropped are marked.

    Attributes:
        train: (T, D) float32 of the photographs, `copies` (C, D) of the copies, `test` (S, D).
        train_ok: (T,) bool, likewise for the others.
    """

    train: np.ndarray
    copies: np.ndarray
    test: np.ndarray
    train_ok: np.ndarray
    copies_ok: np.ndarray
    test_ok: np.ndarray


def embed_head_data(dataset: FaceDataset, embedder: "Embedder", recipe: Recipe, data: HeadData) -> HeadVectors:
    """Embed photographs and copies, each once; from the cache where that was done before.

    Args:
        dataset: the photographs.
        embedder: the frozen base.
        recipe: how they are cropped.
        data: which of them.
    """
    sources = np.concatenate([data.train, data.copies, data.test])
    first_copy, first_test = len(data.train), len(data.train) + len(data.copies)
    fingerprint = {
        "format": _FORMAT,
        "preset": embedder.preset.name,
        "weights_sha256": embedder.sha256,
        "recipe": recipe.name,
        "detector": DETECTOR if recipe.source == "mtcnn" else None,
        "dataset": dataset.name,
        "version": dataset.version,
        "photographs": digest_of([part.tolist() for part in (data.train, data.copies, data.test)]),
        "augmentation": list(PAPER),
        "seed": data.seed,
        **embedder.defense_record,
    }
    store = Store("head-embeddings", fingerprint, len(sources), shard_rows=_SHARD_ROWS)
    crops = Crops(dataset, recipe, embedder.preset.input_size)
    keys = np.array(_copy_keys(dataset, data.copies), np.int64)

    def compute(missing: Sequence[tuple[int, int]], save: Callable[[tuple[int, int], pa.Table], None]) -> None:
        def batches() -> Iterator[int]:
            for start, stop in missing:
                # A photograph and its copies are cut out once.
                own, places = np.unique(sources[start:stop], return_inverse=True)
                cut, failed = crops(own)
                images, reasons = cut[places], [failed[place] for place in places]
                rows = np.arange(start, stop)
                copied = (rows >= first_copy) & (rows < first_test)
                images[copied] = augment_batch(images[copied], seed=data.seed, keys=keys[rows[copied] - first_copy])
                vectors = []
                for place in range(0, len(images), _BATCH):
                    vectors.append(embedder.embed(images[place : place + _BATCH]))
                    yield from range(len(vectors[-1]))
                save((start, stop), _to_table(np.concatenate(vectors), reasons))

        done = len(sources) - sum(stop - start for start, stop in missing)
        label = f"embedding a head's photographs with {embedder.preset.name}"
        for _ in progress(batches(), total=len(sources), done=done, label=label):
            pass

    store.fill(compute)
    table = store.read()
    ok = np.array([not reason for reason in table["failed"].to_pylist()])
    vectors = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(ok), -1)
    cuts = [first_copy, first_test]
    return HeadVectors(*np.split(vectors, cuts), *np.split(ok, cuts))


def _copy_keys(dataset: FaceDataset, copies: np.ndarray) -> list[int]:
    """Return the key that each copy draws by: its photograph, and the number of its copies before."""
    counts: Counter[int] = Counter()
    keys = []
    for index in copies.tolist():
        keys.append(key_number(f"{dataset.keys[index]}\n{counts[index]}"))
        counts[index] += 1
    return keys


def _to_table(vectors: np.ndarray, reasons: list[str]) -> pa.Table:
    if not np.isfinite(vectors).all():
        raise UserError("the model gives embeddings that are not finite: its weights are damaged or not its own")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), vectors.shape[1])
    return pa.table({"failed": pa.array(reasons, pa.string()), "embedding": column})
