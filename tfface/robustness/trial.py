"""One trial: one attack, in one norm, for one goal, on a list of photographs."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.augmentation.levels import key_number
from tfface.data.dataset import FaceDataset
from tfface.data.pairs import Pairs
from tfface.robustness.context import Context
from tfface.robustness.thresholds import Threshold
from tfface.utils.files import digest_of

if TYPE_CHECKING:
    from tfface.attacks._attack import Attack

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Subjects:
    """What is attacked, for one goal.

    Attributes:
        goal: `classify`, `dodging` or `impersonation`.
        name: of the list that they come from.
        first: (N,) int, the photographs that are changed.
        second: (N,) int, the fixed reference of each; None without pairs.
        labels: (N,) int, who a head should say is on each; None with pairs.
        limits: (N,) float64, the cosine distance up to which each pair matches; None without pairs.
    """

    goal: str
    name: str
    first: np.ndarray
    second: np.ndarray | None = None
    labels: np.ndarray | None = None
    limits: np.ndarray | None = None

    @classmethod
    def of_pairs(cls, goal: str, pairs: Pairs, threshold: Threshold) -> "Subjects":
        """Pairs, each with the threshold of its fold."""
        return cls(goal, pairs.name, pairs.first, second=pairs.second, limits=threshold.cosine(pairs.fold))

    def __len__(self) -> int:
        return len(self.first)

    def keys(self, dataset: FaceDataset) -> np.ndarray:
        """(N,) int64: what each draws its randomness by, whatever else is attacked."""
        second = self.first if self.second is None else self.second
        names = zip(self.first.tolist(), second.tolist(), strict=True)
        return np.array([key_number(f"{dataset.keys[one]}\n{dataset.keys[two]}") for one, two in names], np.int64)

    def record(self) -> list[Any]:
        """JSON-able: all of it."""
        parts = (self.first, self.second, self.labels, self.limits)
        return [self.goal, *(None if part is None else part.tolist() for part in parts)]


@dataclass(frozen=True, eq=False)
class Trial:
    """An attack on subjects.

    Attributes:
        setting: the model and the data.
        subjects: what is attacked.
        name: of the attack, as `--attack` takes it.
        attack: the attack.
        epsilons: budgets, each tried by itself; none: the smallest that succeeds is searched for.
        pictures: keep every adversarial image.
    """

    context: Context
    subjects: Subjects
    name: str
    attack: "Attack"
    epsilons: tuple[float, ...] = ()
    pictures: bool = False

    @property
    def minimal(self) -> bool:
        """Whether the smallest epsilon is searched for."""
        return not self.epsilons

    @property
    def columns(self) -> int:
        """Adversarial images of each subject."""
        return len(self.epsilons) or 1

    @cached_property
    def keys(self) -> np.ndarray:
        """(N,) int64 of the subjects."""
        return self.subjects.keys(self.context.dataset)

    @property
    def label(self) -> str:
        """Short, for file names and progress."""
        known = [self.context.knowledge] if self.context.knowledge else []
        return "-".join([self.subjects.goal, self.name, self.attack.norm, *known])

    def fingerprint(self) -> dict[str, Any]:
        """JSON-able: all that its rows depend on."""
        context, classify = self.context, self.subjects.goal == "classify"
        heads = [head.sha256 for head in (context.head, context.surrogate_head) if head and classify]
        return {
            "format": _FORMAT,
            **context.record(),
            "attack": self.name,
            "settings": self.attack.record(),
            "goal": self.subjects.goal,
            "subjects": digest_of(self.subjects.record()),
            "heads": heads,
            "epsilons": list(self.epsilons) or "minimal",
            "pictures": self.pictures,
        }
