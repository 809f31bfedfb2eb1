"""A head's photographs under attack at several budgets, as embeddings of the frozen base: made once, then cached."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tfface.robustness.context import Context
from tfface.robustness.trial import Subjects
from tfface.utils.cache import Store
from tfface.utils.files import digest_of
from tfface.utils.progress import progress

if TYPE_CHECKING:
    from tfface.attacks._attack import Attack
    from tfface.attacks._victim import Victim

ATTACKS = ("fgsm", "pgd")
STEPS = 20
"""Of PGD."""
_BATCH = 32
"""Photographs attacked together, and rows in a shard: a killed run loses at most these."""
_FORMAT = 1


def fgsm_images(victim: "Victim", images: np.ndarray, labels: np.ndarray, epsilons: Sequence[float]) -> np.ndarray:
    """FGSM at several budgets from one gradient, which is the same for all of them.

    Args:
        victim: a classifier under attack.
        images: (N, H, W, 3) float32 in [0, 1].
        labels: (N,) int.
        epsilons: budgets in [0, 1].

    Returns:
        (N, E, H, W, 3), within the budgets and [0, 1].
    """
    import tensorflow as tf

    from tfface.attacks._attack import into_budget
    from tfface.attacks.fgsm import FGSM

    attack, clean = FGSM(), tf.constant(images)
    gradient, _, _ = victim.gradient(clean, labels)
    found = []
    for epsilon in epsilons:
        budget = np.full(len(images), epsilon, np.float32)
        moved, _ = attack.move(clean, tf.zeros_like(clean), gradient, clean, tf.constant(budget))
        found.append(into_budget(moved.numpy(), images, budget, attack.norm))
    return np.stack(found, axis=1)


def attack_of(name: str) -> "Attack":
    """One of `ATTACKS`, as heads are retrained with it."""
    from tfface.attacks.fgsm import FGSM
    from tfface.attacks.pgd import PGD

    return FGSM() if name == "fgsm" else PGD(steps=STEPS)


def attack_record(name: str) -> Any:
    """What cache keys and facts say of one of `ATTACKS`; of FGSM its name, as there was no other once."""
    return name if name == "fgsm" else [name, attack_of(name).record()]


def attacked_images(
    victim: "Victim",
    images: np.ndarray,
    labels: np.ndarray,
    epsilons: Sequence[float],
    *,
    name: str,
    keys: np.ndarray,
    seed: int,
) -> np.ndarray:
    """(N, E, H, W, 3) of one of `ATTACKS`; `keys` (N,) and `seed` as attacks draw by, the rest as of `fgsm_images`."""
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
    """(N, E, D) float32 embeddings of photographs after an attack on the setting's head.

    Those that the head takes for another as they are, are attacked like the rest. Rows of photographs that could
    not be cropped mean nothing.

    Args:
        setting: the model, its head and the data.
        photographs: (N,) int, indices into the data set's keys.
        labels: (N,) int, who is on each.
        epsilons: budgets in [0, 1].
        label: what is being done, for the progress.
        name: of the attack, one of `ATTACKS`.
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
