"""Images that retrain and judge a head: photographs, aimed augmented copies, and photographs under attack.

The people on whom the base errs most get more copies. Embeddings of attacked photographs are computed once and cached.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tfface.data.dataset import FaceDataset
from tfface.errors import UserError
from tfface.robustness.trial import Context, Subjects
from tfface.training.head_data import FEWEST, PEOPLE, HeadData, embed_head_data, head_data
from tfface.utils.cache import Store
from tfface.utils.files import digest_of
from tfface.utils.progress import progress

if TYPE_CHECKING:
    from tfface import attacks

ATTACKS = ("fgsm", "pgd")
STEPS = 20
"""Of PGD."""
_BATCH = 32
"""Photographs attacked together, and rows in a shard: a killed run loses at most these."""
_FORMAT = 1
HARD_WEIGHT = 2
"""How many copies one of the hardest people gets for each one of another."""
_OTHER_COPIES = 2**32
"""Added to the seed, so that these copies are none of those that the old head was trained on."""


def choose_photographs(
    dataset: FaceDataset, *, people: int = PEOPLE, photographs: int | None = None, seed: int = 0
) -> HeadData:
    """Choose the people with most photographs and split these; a quarter of each person's are for the test.

    Args:
        dataset: the photographs.
        people: largest number of people.
        photographs: largest number a person.
        seed: random seed of the split.

    Raises:
        UserError: fewer than two people have photographs enough.
    """
    most = sorted(Counter(dataset.identities).values(), reverse=True)[:people]
    enough = sum(count >= FEWEST for count in most)
    if enough < 2:
        raise UserError(
            f"{dataset.name} has {enough} people of {FEWEST} photographs or more, and a head tells at least 2 apart: "
            "take a larger data set"
        )
    return head_data(dataset, people=enough, photographs=min(most[0], photographs or most[0]), seed=seed)


def validation_part(dataset: FaceDataset, data: HeadData) -> HeadData:
    """Split the training photographs once more, to choose hyperparameters without the test photographs.

    Args:
        dataset: the photographs.
        data: split of the head.

    Raises:
        UserError: a person has too few of them.
    """
    inner = choose_photographs(dataset.take(data.train, "to-train-a-head"), people=len(data.people), seed=data.seed)
    if len(inner.people) < len(data.people):
        raise UserError(
            f"`validate` splits training photographs once more, and somebody of {', '.join(data.people)} has fewer "
            f"than {FEWEST}: leave it out, or take a larger data set",
            parameter="validate",
        )
    return dataclasses.replace(
        inner, train=data.train[inner.train], test=data.train[inner.test], copies=data.train[inner.copies]
    )


def aimed_copies(
    dataset: FaceDataset, data: HeadData, hard: Sequence[str], *, copies: int = 1, seed: int = 0
) -> np.ndarray:
    """Choose the training photograph of each further copy.

    There are `copies` for each training photograph on average, shared out by person: one of the hardest gets
    `HARD_WEIGHT` times as many as another, however many photographs they have.

    Args:
        dataset: the photographs.
        data: of the head.
        hard: the hardest people; nobody: all get equally many.
        copies: for each training photograph on average.
        seed: random seed of the choice among a person's photographs.

    Returns:
        (C,) int, indices into the data set's keys.
    """
    random = np.random.default_rng(seed)
    weights = np.array([HARD_WEIGHT if name in hard else 1 for name in data.people])
    # Rounded so that the counts add up.
    until = np.rint(np.cumsum(weights) / weights.sum() * copies * len(data.train)).astype(int)
    labels = data.labels(dataset, data.train)
    return np.concatenate(
        [
            np.resize(random.permutation(data.train[labels == label]), count)
            for label, count in enumerate(np.diff(until, prepend=0))
        ]
    )


@dataclass(frozen=True, eq=False)
class CopyVectors:
    """Embeddings of the copies that retraining adds, and of one copy of each test photograph.

    Attributes:
        aimed: (C, D) float32; `aimed_ok` (C,) bool, those that could be cropped.
        test: (S, D) float32, in the order of the test photographs; they fail where these fail.
    """

    aimed: np.ndarray
    aimed_ok: np.ndarray
    test: np.ndarray


def embed_copies(context: Context, data: HeadData, aimed: np.ndarray) -> CopyVectors:
    """Make and embed the copies, or take their embeddings from the cache.

    Args:
        context: the base, the photographs and the crop recipe.
        data: of the head.
        aimed: (C,) int, as `aimed_copies` chose.
    """
    none = np.zeros(0, np.int64)
    alone = HeadData(data.people, none, none, np.concatenate([aimed, data.test]), data.seed + _OTHER_COPIES)
    found = embed_head_data(context.dataset, context.embedder, context.recipe, alone)
    cut = len(aimed)
    return CopyVectors(found.copies[:cut], found.copies_ok[:cut], found.copies[cut:])


def fgsm_images(
    victim: "attacks.Victim", images: np.ndarray, labels: np.ndarray, epsilons: Sequence[float]
) -> np.ndarray:
    """Attack by FGSM at several budgets, from one gradient that serves all of them.

    Args:
        victim: a classifier under attack.
        images: (N, H, W, 3) float32 in [0, 1].
        labels: (N,) int.
        epsilons: budgets in [0, 1].

    Returns:
        (N, E, H, W, 3), within the budgets and [0, 1].
    """
    import tensorflow as tf

    from tfface import attacks
    from tfface.attacks._attack import into_budget

    attack, clean = attacks.FGSM(), tf.constant(images)
    gradient, _, _ = victim.gradient(clean, labels)
    found = []
    for epsilon in epsilons:
        budget = np.full(len(images), epsilon, np.float32)
        moved, _ = attack.move(clean, tf.zeros_like(clean), gradient, clean, tf.constant(budget))
        found.append(into_budget(moved.numpy(), images, budget, attack.norm))
    return np.stack(found, axis=1)


def attack_of(name: str) -> "attacks.Attack":
    """Return one of `ATTACKS`, as heads are retrained with it."""
    from tfface import attacks

    return attacks.FGSM() if name == "fgsm" else attacks.PGD(steps=STEPS)


def attack_record(name: str) -> Any:
    """Return what cache keys and facts say of one of `ATTACKS`; of FGSM its name, as there was no other once."""
    return name if name == "fgsm" else [name, attack_of(name).record()]


def attacked_images(
    victim: "attacks.Victim",
    images: np.ndarray,
    labels: np.ndarray,
    epsilons: Sequence[float],
    *,
    name: str,
    keys: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Return (N, E, H, W, 3) images of one of `ATTACKS`; `keys` (N,) and `seed` decide random starts."""
    from tfface.attacks._attack import run

    if name == "fgsm":
        return fgsm_images(victim, images, labels, epsilons)
    attack = attack_of(name)
    outcomes = (run(attack, victim, images, labels, epsilon, seed=seed, keys=keys) for epsilon in epsilons)
    return np.stack([outcome.images for outcome in outcomes], axis=1)


def adversarial_vectors(
    context: Context,
    photographs: np.ndarray,
    labels: np.ndarray,
    epsilons: Sequence[float],
    *,
    label: str,
    name: str = "fgsm",
) -> np.ndarray:
    """Embed photographs after an attack on the context's head.

    Photographs that the head gets wrong without an attack are attacked too. Rows of photographs that could not be
    cropped mean nothing.

    Args:
        context: the model, its head and the data.
        photographs: (N,) int, indices into the data set's keys.
        labels: (N,) int, the person on each.
        epsilons: budgets in [0, 1].
        label: title of the progress bar.
        name: attack, one of `ATTACKS`.

    Returns:
        (N, E, D) float32 embeddings.
    """
    head = context.head
    assert head is not None, "a head is attacked"
    fingerprint = {
        "format": _FORMAT,
        **context.record(),
        "head": head.sha256,
        "attack": attack_record(name),
        "epsilons": list(epsilons),
        "photographs": digest_of([photographs.tolist(), labels.tolist()]),
    }
    store = Store("adversarial-embeddings", fingerprint, len(photographs), shard_rows=_BATCH)

    def compute(missing: Sequence[tuple[int, int]], save: Callable[[tuple[int, int], pa.Table], None]) -> None:
        victim, total = context.victim("classify"), len(store.ranges())
        for start, stop in progress(missing, total=total, done=total - len(missing), label=label, unit="batches"):
            images, _ = context.crops(photographs[start:stop])
            keys = Subjects("classify", "", photographs[start:stop]).keys(context.dataset)
            attacked = attacked_images(
                victim, images, labels[start:stop], epsilons, name=name, keys=keys, seed=context.seed
            )
            vectors = [context.embedder.embed(attacked[:, place]) for place in range(len(epsilons))]
            save((start, stop), pa.table({"embedding": list(np.stack(vectors, axis=1).reshape(stop - start, -1))}))

    store.fill(compute)
    flat = store.read()["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32).reshape(len(photographs), len(epsilons), -1)
