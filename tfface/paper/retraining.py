"""A head retrained on clean, augmented and adversarial images, on a base that stays frozen.

The paper's defence: *Facial Recognition Adversarial Methods and Defenses*. Photographs are split before any of
them is augmented or attacked, so that no test photograph is in the training in any form.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.errors import UserError
from tfface.paper.adversarial_vectors import ATTACKS, adversarial_vectors, attack_record
from tfface.paper.retraining_data import (
    CopyVectors,
    Hardness,
    aimed_copies,
    choose_photographs,
    embed_copies,
    mine_people,
    validation_part,
)
from tfface.paper.table2 import saved_head, trained_head
from tfface.preprocessing.images import Recipe
from tfface.robustness.context import Context, Judging
from tfface.training.head import Head, HeadSettings, kept_head
from tfface.training.head_data import PEOPLE, HeadData, HeadVectors, embed_head_data
from tfface.utils import registry

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder

SHARE = 0.5
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class RetrainingConfig:
    """What is asked for.

    Attributes:
        attack: `fgsm`, the paper's, or `pgd`, in training and test.
        epsilons: of the attack, in training and test.
        adversarial_share: of what the new head is trained on.
        rounds: how often the newest head is attacked and a newer one trained on what all rounds made.
        copies: further augmented copies, for each training photograph on average.
        hidden: units of a layer between, in the old head and the new; 0 for linear heads.
        people: how many at most.
        photographs: at most so many a person; None for all.
        head_file: the old head, with its people and photographs; one is trained if None.
        validate: judge on a part of the training photographs, to choose settings.
        seed: of everything drawn at random.

    Raises:
        UserError: a value out of range, or a head given together with what it decides itself.
    """

    epsilons: tuple[float, ...]
    adversarial_share: float = SHARE
    rounds: int = 1
    copies: int = 1
    hidden: int = 0
    people: int = PEOPLE
    photographs: int | None = None
    head_file: Path | None = None
    validate: bool = False
    attack: str = "fgsm"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.attack not in ATTACKS:
            raise registry.unknown("attack to retrain with", self.attack, list(ATTACKS))
        if not 0 <= self.adversarial_share < 1:
            raise UserError(
                f"--adversarial-share {self.adversarial_share:g} is outside 0 (none) to below 1: there are clean "
                "images to train on too"
            )
        if not self.epsilons or not all(0 <= epsilon <= 1 for epsilon in self.epsilons):
            raise UserError(f"--epsilon {', '.join(map(str, self.epsilons))}: give budgets from 0 to 1")
        given = {"--photographs": self.photographs is not None, "--people": self.people != PEOPLE}
        given |= {"--validate": self.validate, "--hidden": bool(self.hidden)}
        if self.head_file is not None and any(given.values()):
            option = next(name for name, there in given.items() if there)
            raise UserError(f"--head brings its own people, photographs and layers: leave out {option}, or --head")


@dataclass(frozen=True, eq=False)
class Start:
    """What a retraining begins with: the old head, all photographs and copies as embeddings.

    Attributes:
        setting: the model, the data, and the old head.
        data: the photographs; its copies trained the old head.
        vectors: embeddings of them.
        hardness: on whom the base errs.
        aimed: (C,) int, the training photograph of each further copy.
        copies: embeddings of these, and of a copy of each test photograph.
    """

    context: Context
    data: HeadData
    vectors: HeadVectors
    hardness: Hardness
    aimed: np.ndarray
    copies: CopyVectors

    @property
    def old(self) -> Head:
        assert self.context.head is not None, "made with it"
        return self.context.head

    @property
    def settings(self) -> HeadSettings:
        """Of the new head, which has the old head's layers."""
        first, *others = self.old.weights
        return HeadSettings(hidden=len(first[1]) if others else 0, seed=self.context.seed)

    def labels(self, photographs: np.ndarray) -> np.ndarray:
        """(N,) int: who is on each, as the heads number them."""
        return self.data.labels(self.context.dataset, photographs)

    @property
    def clean(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) training photographs, and their labels."""
        ok = self.vectors.train_ok
        return self.vectors.train[ok], self.labels(self.data.train[ok])

    @property
    def augmented(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) copies: those that trained the old head, then the further ones; and their labels."""
        ok, more = self.vectors.copies_ok, self.copies.aimed_ok
        vectors = np.concatenate([self.vectors.copies[ok], self.copies.aimed[more]])
        return vectors, self.labels(np.concatenate([self.data.copies[ok], self.aimed[more]]))


@dataclass(frozen=True, eq=False)
class Retrained:
    """The new head and how many images of each kind trained it.

    Attributes:
        head: the new head.
        clean: photographs.
        augmented: copies.
        adversarial: adversarial images, each as often as it was taken.
        made: adversarial images that there were to take.
    """

    head: Head
    clean: int
    augmented: int
    adversarial: int
    made: int


def begin(plan: RetrainingConfig, dataset: FaceDataset, embedder: "Embedder", recipe: Recipe) -> Start:
    """Splits the photographs, trains or loads the old head, mines its people and makes the copies.

    Raises:
        UserError: too few people, a head that does not fit, or photographs that cannot be used.
    """
    if plan.head_file is not None:
        head, data = saved_head(plan.head_file, dataset, embedder, recipe)
        vectors = embed_head_data(dataset, embedder, recipe, data)
    else:
        data = choose_photographs(dataset, people=plan.people, photographs=plan.photographs, seed=plan.seed)
        if plan.validate:
            data = validation_part(dataset, data)
        settings = HeadSettings(hidden=plan.hidden, seed=plan.seed)
        head, vectors = trained_head(dataset, embedder, recipe, data, settings)
    if not vectors.test_ok.any():
        raise UserError(f"none of the {len(data.test)} test photographs can be cropped by {recipe.name}: take another")
    hardness = mine_people(dataset, data, vectors, embedder.preset, seed=plan.seed)
    aimed = aimed_copies(dataset, data, hardness.hard, copies=plan.copies, seed=plan.seed)
    copies = embed_copies(dataset, embedder, recipe, data, aimed)
    context = Context(dataset, embedder, recipe, Judging(), plan.seed, head=head)
    return Start(context, data, vectors, hardness, aimed, copies)


def retrain(plan: RetrainingConfig, start: Start) -> Retrained:
    """Attacks the training photographs and trains a new head on them too, in so many rounds."""
    if not plan.adversarial_share:
        return _train(plan, start, [], [])
    attacked, made = [start.old], [_attacked_training(plan, start, start.old, 1)]
    found = _train(plan, start, attacked, made)
    for number in range(2, plan.rounds + 1):
        attacked.append(found.head)
        made.append(_attacked_training(plan, start, found.head, number))
        found = _train(plan, start, attacked, made)
    return found


def attacked_photographs(
    plan: RetrainingConfig, start: Start, head: Head, photographs: np.ndarray, label: str
) -> np.ndarray:
    """(N, E, D) embeddings of photographs after the plan's attack on a head."""
    context = start.context if head is start.old else dataclasses.replace(start.context, head=head)
    labels = start.labels(photographs)
    return adversarial_vectors(context, photographs, labels, plan.epsilons, label=label, name=plan.attack)


def _attacked_training(plan: RetrainingConfig, start: Start, head: Head, number: int) -> np.ndarray:
    label = f"round {number} of {plan.rounds}: attacking the training photographs"
    return attacked_photographs(plan, start, head, start.data.train, label)[start.vectors.train_ok]


def _train(plan: RetrainingConfig, start: Start, attacked: Sequence[Head], made: Sequence[np.ndarray]) -> Retrained:
    """The head of a round, trained or taken from the cache.

    Args:
        plan: what is asked for.
        start: what there is.
        attacked: the head that each round attacked.
        made: of each round (T, E, D) embeddings of the attacked training photographs.
    """
    clean, copies = start.clean, start.augmented
    chosen = _chosen(plan, len(clean[0]) + len(copies[0]), sum(part[:, :, 0].size for part in made))
    length = clean[0].shape[1]
    pool = np.concatenate([part.reshape(-1, length) for part in made]) if made else np.zeros((0, length), np.float32)
    labels = np.tile(np.repeat(clean[1], len(plan.epsilons)), len(made))

    def examples() -> tuple[np.ndarray, np.ndarray]:
        return (
            np.concatenate([clean[0], copies[0], pool[chosen]]),
            np.concatenate([clean[1], copies[1], labels[chosen]]),
        )

    head = kept_head(examples, start.data.people, facts=_facts(plan, start, attacked), settings=start.settings)
    return Retrained(head, len(clean[0]), len(copies[0]), len(chosen), len(pool))


def _chosen(plan: RetrainingConfig, others: int, made: int) -> np.ndarray:
    """Which adversarial images are taken, so that they have their share: some of them, or all several times."""
    count = round(plan.adversarial_share / (1 - plan.adversarial_share) * others) if made else 0
    return np.resize(np.random.default_rng(plan.seed).permutation(made), count)


def _facts(plan: RetrainingConfig, start: Start, attacked: Sequence[Head]) -> dict[str, Any]:
    """What a later reader must know: the photographs as the old head's, so that `attack --head` finds them."""
    keys = start.context.dataset.keys
    return {
        **{name: value for name, value in start.old.facts.items() if name != "settings"},
        "retraining": {
            "format": _FORMAT,
            "old_head": start.old.sha256,
            "copies": [keys[index] for index in start.aimed],
            "attack": attack_record(plan.attack),
            "epsilons": list(plan.epsilons),
            "attacked_heads": [head.sha256 for head in attacked],
            "adversarial_share": plan.adversarial_share,
            "seed": plan.seed,
        },
    }
