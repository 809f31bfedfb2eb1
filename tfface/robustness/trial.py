"""An attack on photographs of a data set: one model, one goal, one attack, and what becomes of each photograph."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tfface.attacks._quantization import ImageFormat
from tfface.augmentation.changes import key_number
from tfface.data.crops import Crops, crop_fingerprint, detect_faces
from tfface.data.dataset import FaceDataset, Pairs
from tfface.defenses._stack import DRAWS, DefendedEmbedder, apply
from tfface.distributed.executor import LOCAL, Executor
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings, embed_dataset
from tfface.evaluation.inputs import Embedder, Model, Recipe, Source, as_embedder, load_dataset, recipe
from tfface.utils.cache import Store, digest_of
from tfface.utils.files import fields_of

if TYPE_CHECKING:
    from tfface.attacks._attack import Attack
    from tfface.attacks._victim import Victim
    from tfface.training.head import Head

BATCH = 32
"""Subjects in a batch, and rows in a shard: a killed run loses at most one batch."""
SEARCH_BATCH = 64
"""The same where the smallest epsilon is searched for: an image that is done makes room for another."""
_FORMAT = 1
_COLUMNS = ["failed", "clean", "epsilon", "success", "margin", "change", "vectors"]
"""Of the cache, all but pictures."""


@dataclass(frozen=True, eq=False)
class Context:
    """One model on one data set, shared by its trials; crops and networks are made when first needed.

    Attributes:
        dataset: data set whose photographs are attacked.
        embedder: the model under attack.
        recipe: crop recipe.
        stored: format of adversarial images when they are judged.
        seed: random seed.
        head: classifier for the goal `classify`.
        surrogate: model that attacks see instead; None: they see the attacked one.
        surrogate_head: classifier on the surrogate, for the same people.
        draws: draws of a random model whose mean a gradient is.
    """

    dataset: FaceDataset
    embedder: Embedder
    recipe: Recipe
    stored: ImageFormat = ImageFormat()  # noqa: RUF009 it is frozen
    seed: int = 0
    head: "Head | None" = None
    surrogate: Embedder | None = None
    surrogate_head: "Head | None" = None
    draws: int = DRAWS

    def __getstate__(self) -> dict[str, Any]:
        return fields_of(self)  # crops and compiled networks are each process's own

    @property
    def knowledge(self) -> str | None:
        """Return the attacker's knowledge of the defense; None where nothing is defended.

        `adaptive`: all, and follows its gradient; `naive`: not that there is one, and attacks the undefended model;
        `transfer`: neither, and attacks another model.
        """
        if not isinstance(self.embedder, DefendedEmbedder):
            return None
        if self.surrogate is None:
            return "adaptive"
        same = self.surrogate.sha256 == self.embedder.sha256 and not self.surrogate.defense
        return "naive" if same else "transfer"

    @property
    def averages(self) -> bool:
        """Tell if the attacker's gradients are means over draws."""
        return isinstance(self.embedder, DefendedEmbedder) and self.embedder.random and self.surrogate is None

    @property
    def stack(self) -> tuple[Any, ...]:
        """Return the defenses in front of the model, the first of which sees the image first."""
        return self.embedder.stack if isinstance(self.embedder, DefendedEmbedder) else ()

    def behind(self, defenses: Sequence[str]) -> "Context":
        """Return the same with defenses in front of the model."""
        return dataclasses.replace(self, embedder=apply(self.embedder, defenses))

    def unaware(self) -> "Context | None":
        """Return the same with attacks that see the model without its defenses; None where it has none."""
        if not isinstance(self.embedder, DefendedEmbedder):
            return None
        return dataclasses.replace(self, surrogate=self.embedder.undefended)

    def embeddings(self, executor: Executor = LOCAL) -> Embeddings:
        """Return the embeddings of the data set, computed by `executor` if they are not cached."""
        return embed_dataset(self.dataset, self.embedder, self.recipe, executor=executor)

    def detect_faces(self, executor: Executor) -> None:
        """Find the faces of the data set, where its recipe cuts out faces."""
        if self.recipe.source == "mtcnn":
            detect_faces(self.dataset, executor=executor)

    @functools.cached_property
    def crops(self) -> Crops:
        """Return the data set's crops by index."""
        return Crops(self.dataset, self.recipe, self.embedder.preset.input_size)

    @functools.cached_property
    def _victims(self) -> "dict[tuple[str, bool], Victim]":
        return {}

    def victim(self, goal: str, *, surrogate: bool = False) -> "Victim":
        """Return the network under attack for a goal, or the one attacks see instead; compiled once for all trials."""
        if (goal, surrogate) not in self._victims:
            self._victims[goal, surrogate] = self._victim(goal, surrogate)
        return self._victims[goal, surrogate]

    def _victim(self, goal: str, surrogate: bool) -> "Victim":
        from tfface.attacks._transfer import resized
        from tfface.attacks._victim import QueriedVictim, Victim
        from tfface.training.head import with_head

        own = self.surrogate if surrogate else self.embedder
        assert own is not None, "called only where there is one"
        side, model = self.embedder.preset.input_size, getattr(own, "model", None)
        if surrogate:
            model = resized(model, (side, side))
        drawn = own.drawn_model if isinstance(own, DefendedEmbedder) and own.random else None
        head = self.surrogate_head if surrogate else self.head
        if goal == "classify":
            assert head is not None, "this goal has a head"
            model, drawn = with_head(model, head), drawn and with_head(drawn, head)
        if model is None or not own.differentiable:  # known by its answers alone
            ask = own.embed if model is None or not (surrogate or goal == "classify") else model
            return QueriedVictim(ask, goal, (side, side, 3), own.preset.name)
        return Victim(model, goal, drawn=drawn, draws=self.draws)

    def check_attack(self, attack: "Attack") -> None:
        """Check that an attack can be made on this model.

        Raises:
            UserError: it follows gradients, and the model that it sees gives none.
        """
        seen = self.surrogate or self.embedder
        if attack.black_box or seen.differentiable:
            return
        if self.surrogate:
            raise UserError(f"the surrogate {seen.preset.name} gives no gradients: name another `surrogate`")
        raise UserError(
            f"{attack.title} follows gradients, and {seen.preset.name} gives none: take `attack` square, or name a "
            "`surrogate` that does",
            parameter="attack",
        )

    def aimed(
        self, attack: "Attack", goal: str, given: np.ndarray, limits: np.ndarray | None, keys: np.ndarray
    ) -> "Attack":
        """Return the attack as it is made: through the surrogate where there is one.

        Args:
            attack: the attack.
            goal: its goal.
            given: labels or reference images of a batch, as the goal's criterion takes them.
            limits: (N,) cosine thresholds of the pairs; None without pairs.
            keys: (N,) names of the images.
        """
        if self.surrogate is None:
            return attack
        from tfface.attacks._transfer import Transfer

        seen = self.victim(goal, surrogate=True)
        return Transfer(inner=attack, surrogate=seen, surrogate_targets=seen.targets(given, limits), keys=keys)

    def fingerprint(self) -> dict[str, Any]:
        """Return what cache keys hold of the model and its crops of the data set, JSON-able."""
        return crop_fingerprint(self.embedder, self.dataset, self.recipe)

    def record(self) -> dict[str, Any]:
        """Return all of it that decides an attack's result, JSON-able."""
        surrogate = self.surrogate
        return {
            **self.fingerprint(),
            "judged": self.stored.name,
            "surrogate": None if surrogate is None else [surrogate.preset.name, surrogate.sha256],
            "seed": self.seed,
            **({"draws": self.draws} if self.averages else {}),
        }


def load_contexts(
    models: Sequence[Model],
    dataset: Source,
    *,
    recipe_name: str | None,
    defenses: Sequence[str] = (),
    surrogate: Model | None = None,
    manual_dir: str | Path | None = None,
    offline: bool = False,
    **shared: Any,
) -> list[Context]:
    """Load models and a data set; return a context for each model.

    Args:
        models: under attack.
        dataset: data set.
        recipe_name: crop recipe; the data set's own, or the preset's, if None.
        defenses: in front of each model.
        surrogate: model that attacks see instead.
        manual_dir: folder of data set archives at hand.
        offline: never touch a network.
        **shared: further fields of every context.
    """
    embedders = [apply(as_embedder(one, offline=offline), defenses) for one in models]
    other = as_embedder(surrogate, offline=offline) if surrogate else None
    faces = load_dataset(dataset, manual_dir=manual_dir, offline=offline)
    return [
        Context(faces, one, recipe(recipe_name or faces.own_recipe or one.preset.recipe), surrogate=other, **shared)
        for one in embedders
    ]


@dataclass(frozen=True, eq=False)
class Subjects:
    """Photographs to attack, for one goal.

    Attributes:
        goal: `classify`, `dodging` or `impersonation`.
        name: of the list that they come from.
        first: (N,) int, the photographs that are changed.
        second: (N,) int, the fixed reference of each; None without pairs.
        labels: (N,) int, the correct class of each; None with pairs.
        limits: (N,) float64, the cosine distance up to which each pair matches; None without pairs.
    """

    goal: str
    name: str
    first: np.ndarray
    second: np.ndarray | None = None
    labels: np.ndarray | None = None
    limits: np.ndarray | None = None

    @classmethod
    def of_pairs(cls, goal: str, pairs: Pairs, limits: np.ndarray) -> "Subjects":
        """Make subjects of pairs, each with its cosine threshold (N,)."""
        return cls(goal, pairs.name, pairs.first, second=pairs.second, limits=limits)

    def __len__(self) -> int:
        return len(self.first)

    def keys(self, dataset: FaceDataset) -> np.ndarray:
        """Return (N,) int64 seeds of the photographs' randomness, whatever else is attacked."""
        second = self.first if self.second is None else self.second
        return pair_keys(dataset, self.first, second)

    def record(self) -> list[Any]:
        """Return all of it, JSON-able."""
        parts = (self.first, self.second, self.labels, self.limits)
        return [self.goal, *(None if part is None else part.tolist() for part in parts)]


def pair_keys(dataset: FaceDataset, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return (N,) int64 that name pairs of photographs, by their indices (N,), whatever else is in a data set."""
    names = zip(first.tolist(), second.tolist(), strict=True)
    return np.array([key_number(f"{dataset.keys[one]}\n{dataset.keys[two]}") for one, two in names], np.int64)


@dataclass(frozen=True, eq=False)
class Trial:
    """One attack, in one norm, for one goal, on a list of photographs.

    Attributes:
        context: the model and the data.
        subjects: photographs to attack.
        name: of the attack's file.
        attack: the attack.
        epsilons: budgets, each tried by itself; none: the smallest that succeeds is searched for.
        pictures: store every adversarial image.
    """

    context: Context
    subjects: Subjects
    name: str
    attack: "Attack"
    epsilons: tuple[float, ...] = ()
    pictures: bool = False

    @property
    def minimal(self) -> bool:
        """Tell if the smallest epsilon is searched for."""
        return not self.epsilons

    @property
    def columns(self) -> int:
        """Return the number of adversarial images of each subject."""
        return len(self.epsilons) or 1

    @functools.cached_property
    def keys(self) -> np.ndarray:
        """Return (N,) int64 of the subjects."""
        return self.subjects.keys(self.context.dataset)

    @property
    def label(self) -> str:
        """Return a short name for files and progress."""
        known = [self.context.knowledge] if self.context.knowledge else []
        return "-".join([self.subjects.goal, self.name, self.attack.norm, *known])

    def fingerprint(self) -> dict[str, Any]:
        """Return all that its results depend on, JSON-able."""
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


@dataclass(frozen=True, eq=False)
class TrialResults:
    """Results of each subject (N), at each of the trial's epsilons (E).

    Attributes:
        failed: (N,) why a photograph could not be cropped; empty where it could.
        clean: (N,) by how much the goal was reached before the attack; NaN where cropping failed.
        epsilon: (N, E) the budget; of a search the smallest that succeeded, infinite where none did.
        success: (N, E) bool.
        margin: (N, E) by how much the goal is reached; NaN where nothing was attacked.
        change: (N, E) the distance from the clean image, in epsilon's unit.
        vectors: (N, E, D) embeddings of the adversarial images; None with pairs.
    """

    failed: list[str]
    clean: np.ndarray
    epsilon: np.ndarray
    success: np.ndarray
    margin: np.ndarray
    change: np.ndarray
    vectors: np.ndarray | None

    @property
    def cropped(self) -> np.ndarray:
        """Return (N,) bool: all photographs of the subject could be cropped."""
        return np.array([not reason for reason in self.failed], bool)

    @property
    def already_wrong(self) -> np.ndarray:
        """Return (N,) bool: the model gave the attacker's answer before any attack."""
        return self.cropped & (self.clean > 0)

    @property
    def attacked(self) -> np.ndarray:
        """Return (N,) bool: those that rates are taken of."""
        return self.cropped & ~self.already_wrong


class TrialStore(Store):
    """Cached results of a trial, one row a subject."""

    def __init__(self, trial: Trial) -> None:
        size = SEARCH_BATCH if trial.minimal else BATCH
        super().__init__("attacks", trial.fingerprint(), len(trial.subjects), shard_rows=size)
        self._columns = trial.columns

    def results(self) -> TrialResults:
        """Read the results of all subjects."""
        table = pa.concat_tables(list(self.tables(_COLUMNS)))

        def matrix(name: str) -> np.ndarray:
            flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            return flat.reshape(table.num_rows, self._columns)

        vectors = None
        if table.num_rows and table["vectors"].null_count == 0:
            flat = table["vectors"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            vectors = flat.reshape(table.num_rows, self._columns, -1)
        return TrialResults(
            table["failed"].to_pylist(),
            table["clean"].to_numpy(),
            matrix("epsilon"),
            matrix("success").astype(bool),
            matrix("margin"),
            matrix("change"),
            vectors,
        )
