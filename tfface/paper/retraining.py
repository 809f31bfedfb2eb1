"""Steps of a retraining: the old head, the images of each kind, and the new head of each round.

A head is retrained on clean, augmented and adversarial images, on a base that stays frozen. Photographs are split
before any of them is augmented or attacked, so that no test photograph is in the training in any form.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.evaluation.mining import hardest_people, mine_embeddings
from tfface.paper.retraining_data import (
    ATTACKS,
    CopyVectors,
    adversarial_vectors,
    aimed_copies,
    attack_record,
    choose_photographs,
    embed_copies,
    validation_part,
)
from tfface.robustness.classification import saved_head, trained_head
from tfface.robustness.trial import Context
from tfface.training.head import Head, HeadSettings, cached_head
from tfface.training.head_data import PEOPLE, HeadData, HeadVectors, embed_head_data
from tfface.utils import registry

_FORMAT = 1


@dataclass(frozen=True)
class Hardness:
    """Errors of the base by person.

    Attributes:
        errors: person to number of wrong pairs among the training photographs; an impostor pair counts for both.
        hard: the people with most errors, the hardest first; at most half of all.
        threshold: at which pairs were judged, in the preset's metric.
    """

    errors: dict[str, int]
    hard: tuple[str, ...]
    threshold: float


def mine_people(context: Context, data: HeadData, vectors: HeadVectors, threshold: float | None = None) -> Hardness:
    """Mine all pairs of the training photographs.

    Args:
        context: the base, the photographs and the crop recipe.
        data: of the head.
        vectors: embeddings of its photographs.
        threshold: in the preset's metric, instead of the preset's.
    """
    dataset, preset = context.dataset, context.embedder.preset
    failed = [(dataset.keys[index], "") for index in data.train[~vectors.train_ok]]
    embeddings = Embeddings(vectors.train, vectors.train_ok, failed)
    taken = dataset.take(data.train, "to-train-a-head")
    mined = mine_embeddings(taken, embeddings, preset, threshold=threshold, seed=context.seed, top=1)
    found = {person.person: person.errors for person in mined.people}
    return Hardness(
        {name: found.get(name, 0) for name in data.people},
        tuple(hardest_people(mined, len(data.people) // 2)),
        mined.metrics["threshold"],
    )


@dataclass(frozen=True, kw_only=True)
class RetrainingConfig:
    """Configuration of a retraining.

    Attributes:
        people: number of people with most photographs; fewer where there are no more.
        photographs: largest number of photographs a person; None for all.
        head: file of the old head, with its people and photographs; one is trained if None.
        attack: `fgsm`, the paper's, or `pgd` of 20 steps, in training and test.
        epsilons: budgets of the attack, in training and test, on the scale of [0, 1].
        adversarial_share: share of adversarial images among those that train the new head; from 0 to below 1.
        rounds: how often the newest head is attacked and a newer one trained on the images of all rounds.
        copies: further augmented copies for each training photograph, on average.
        hidden: units of a hidden layer in both heads; 0 for linear heads.
        threshold: distance up to which pairs match where the hardest people are mined, in the preset's metric; the
            preset's by default.
        validate: judge on a part of the training photographs instead, to choose hyperparameters.
        recipe: crop recipe; the preset's by default, or `whole` where a data set holds crops.
        manual_dir: folder of data set archives at hand.
        seed: random seed.
        offline: never touch a network.

    Raises:
        UserError: a value is out of range, or contradicts the people and layers that `head` brings.
    """

    people: int = PEOPLE
    photographs: int | None = None
    head: str | Path | None = None
    attack: str = "fgsm"
    epsilons: Sequence[float] = (0.01, 0.015, 0.02)
    adversarial_share: float = 0.5
    rounds: int = 1
    copies: int = 1
    hidden: int = 0
    threshold: float | None = None
    validate: bool = False
    recipe: str | None = None
    manual_dir: str | Path | None = None
    seed: int = 0
    offline: bool = False

    def __post_init__(self) -> None:
        if self.attack not in ATTACKS:
            raise registry.unknown("attack to retrain with", self.attack, list(ATTACKS))
        if not 0 <= self.adversarial_share < 1:
            raise UserError(
                f"`adversarial_share` {self.adversarial_share:g} is outside 0 (none) to below 1: there are clean "
                "images to train on too",
                parameter="adversarial_share",
            )
        if not self.epsilons or not all(0 <= epsilon <= 1 for epsilon in self.epsilons):
            budgets = ", ".join(map(str, self.epsilons))
            raise UserError(f"`epsilons` {budgets}: give budgets from 0 to 1", parameter="epsilons")
        self._check_least(people=2, photographs=4, rounds=1, copies=0, hidden=0)
        given = {"photographs": self.photographs is not None, "people": self.people != PEOPLE}
        given |= {"validate": self.validate, "hidden": bool(self.hidden)}
        if self.head is not None and any(given.values()):
            name = next(name for name, there in given.items() if there)
            raise UserError(
                f"`head` brings its own people, photographs and layers: leave out `{name}`, or `head`", parameter=name
            )

    def _check_least(self, **least: int) -> None:
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise UserError(f"`{name}` {value}: give at least {smallest}", parameter=name)


@dataclass(frozen=True, eq=False)
class Start:
    """Old head of a retraining, and all photographs and copies as embeddings.

    Attributes:
        context: the model, the data, and the old head.
        data: the photographs; its copies trained the old head.
        vectors: embeddings of them.
        hardness: errors of the base by person.
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
        """The old head."""
        assert self.context.head is not None, "made with it"
        return self.context.head

    @property
    def settings(self) -> HeadSettings:
        """Settings of the new head, which has the old head's layers."""
        first, *others = self.old.weights
        return HeadSettings(hidden=len(first[1]) if others else 0, seed=self.context.seed)

    def labels(self, photographs: np.ndarray) -> np.ndarray:
        """Return (N,) int, the person on each photograph as the heads number them."""
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
class NewHead:
    """A retrained head and how many images of each kind trained it.

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


def prepare(config: RetrainingConfig, context: Context) -> Start:
    """Split the photographs, train or load the old head, mine its people and make the copies.

    Args:
        config: configuration of the retraining.
        context: the base, the photographs, the crop recipe and the seed.

    Raises:
        UserError: too few people, a head that does not fit, or photographs that cannot be used.
    """
    dataset, embedder, recipe = context.dataset, context.embedder, context.recipe
    if config.head is not None:
        head, data = saved_head(Path(config.head), dataset, embedder, recipe)
        vectors = embed_head_data(dataset, embedder, recipe, data)
    else:
        data = choose_photographs(dataset, people=config.people, photographs=config.photographs, seed=config.seed)
        if config.validate:
            data = validation_part(dataset, data)
        settings = HeadSettings(hidden=config.hidden, seed=config.seed)
        head, vectors = trained_head(dataset, embedder, recipe, data, settings)
    if not vectors.test_ok.any():
        raise UserError(f"none of the {len(data.test)} test photographs can be cropped by {recipe.name}: take another")
    hardness = mine_people(context, data, vectors, config.threshold)
    aimed = aimed_copies(dataset, data, hardness.hard, copies=config.copies, seed=config.seed)
    copies = embed_copies(context, data, aimed)
    return Start(dataclasses.replace(context, head=head), data, vectors, hardness, aimed, copies)


def train_rounds(config: RetrainingConfig, start: Start) -> NewHead:
    """Attack the training photographs and train a new head on them too, round by round."""
    if not config.adversarial_share:
        return _train(config, start, [], [])
    attacked, made = [start.old], [_attacked_training(config, start, start.old, 1)]
    found = _train(config, start, attacked, made)
    for number in range(2, config.rounds + 1):
        attacked.append(found.head)
        made.append(_attacked_training(config, start, found.head, number))
        found = _train(config, start, attacked, made)
    return found


def attacked_photographs(
    config: RetrainingConfig, start: Start, head: Head, photographs: np.ndarray, label: str
) -> np.ndarray:
    """Return (N, E, D) embeddings of photographs after the configured attack on a head."""
    context = start.context if head is start.old else dataclasses.replace(start.context, head=head)
    labels = start.labels(photographs)
    return adversarial_vectors(context, photographs, labels, config.epsilons, label=label, name=config.attack)


def _attacked_training(config: RetrainingConfig, start: Start, head: Head, number: int) -> np.ndarray:
    label = f"round {number} of {config.rounds}: attacking the training photographs"
    return attacked_photographs(config, start, head, start.data.train, label)[start.vectors.train_ok]


def _train(config: RetrainingConfig, start: Start, attacked: Sequence[Head], made: Sequence[np.ndarray]) -> NewHead:
    """Train the head of a round, or take it from the cache.

    Args:
        config: configuration of the retraining.
        start: the old head and the data.
        attacked: attacked head of each round.
        made: (T, E, D) embeddings of the attacked training photographs, of each round.
    """
    clean, copies = start.clean, start.augmented
    chosen = _chosen(config, len(clean[0]) + len(copies[0]), sum(part[:, :, 0].size for part in made))
    length = clean[0].shape[1]
    pool = np.concatenate([part.reshape(-1, length) for part in made]) if made else np.zeros((0, length), np.float32)
    labels = np.tile(np.repeat(clean[1], len(config.epsilons)), len(made))

    def examples() -> tuple[np.ndarray, np.ndarray]:
        return (
            np.concatenate([clean[0], copies[0], pool[chosen]]),
            np.concatenate([clean[1], copies[1], labels[chosen]]),
        )

    head = cached_head(examples, start.data.people, facts=_facts(config, start, attacked), settings=start.settings)
    return NewHead(head, len(clean[0]), len(copies[0]), len(chosen), len(pool))


def _chosen(config: RetrainingConfig, others: int, made: int) -> np.ndarray:
    """Draw so many adversarial images that they have their share: some of them, or all several times."""
    count = round(config.adversarial_share / (1 - config.adversarial_share) * others) if made else 0
    return np.resize(np.random.default_rng(config.seed).permutation(made), count)


def _facts(config: RetrainingConfig, start: Start, attacked: Sequence[Head]) -> dict[str, Any]:
    """Return the facts of the new head: photographs as the old head's, so that an attack on it finds them."""
    keys = start.context.dataset.keys
    return {
        **{name: value for name, value in start.old.facts.items() if name != "settings"},
        "retraining": {
            "format": _FORMAT,
            "old_head": start.old.sha256,
            "copies": [keys[index] for index in start.aimed],
            "attack": attack_record(config.attack),
            "epsilons": list(config.epsilons),
            "attacked_heads": [head.sha256 for head in attacked],
            "adversarial_share": config.adversarial_share,
            "seed": config.seed,
        },
    }
