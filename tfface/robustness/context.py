"""What all trials of one model share: its data, crops and networks, each made when first needed."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data.crops import Crops
from tfface.data.dataset import FaceDataset
from tfface.defenses._stack import DRAWS, DefendedEmbedder
from tfface.preprocessing.images import Recipe
from tfface.preprocessing.mtcnn import DETECTOR
from tfface.utils.configured import fields_of

if TYPE_CHECKING:
    from tfface.attacks._attack import Attack
    from tfface.attacks._victim import Victim
    from tfface.models._embedder import Embedder
    from tfface.training.head import Head


@dataclass(frozen=True)
class Judging:
    """How an adversarial image reaches the judge.

    Attributes:
        name: `float` as the attack made it, `8-bit` as a PNG file holds it, or what JPEG leaves of it.
        quality: of the JPEG encoder; 0 for none.
    """

    name: str = "float"
    quality: int = 0

    @classmethod
    def of(cls, *, quantize: bool, quality: int | None) -> "Judging":
        """What `--quantize` and `--jpeg` ask for; a JPEG file is 8-bit already."""
        if quality is not None:
            return cls(f"JPEG quality {quality}", quality)
        return cls("8-bit") if quantize else cls()

    @property
    def judge(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Images to what the judge sees of them; None: as they are."""
        from tfface.attacks import _quantization

        if self.quality:
            return _quantization.jpeg(self.quality)
        return None if self.name == "float" else _quantization.quantized

    def seen(self, images: np.ndarray) -> np.ndarray:
        """What the judge sees of images."""
        return images if self.judge is None else self.judge(images)


@dataclass(frozen=True, eq=False)
class Context:
    """One model on one data set.

    Attributes:
        dataset: whose photographs are attacked.
        embedder: the model under attack.
        recipe: how photographs are cropped.
        judging: how adversarial images reach the judge.
        seed: of everything drawn at random.
        head: of the goal `classify`.
        surrogate: the model that attacks see instead; None: they see the attacked one.
        surrogate_head: on the surrogate, for the same people.
        draws: of a model that draws at random: those whose mean a gradient is.
    """

    dataset: FaceDataset
    embedder: "Embedder"
    recipe: Recipe
    judging: Judging
    seed: int = 0
    head: "Head | None" = None
    surrogate: "Embedder | None" = None
    surrogate_head: "Head | None" = None
    draws: int = DRAWS

    def __getstate__(self) -> dict[str, Any]:
        return fields_of(self)  # crops and compiled networks are each process's own

    @property
    def knowledge(self) -> str | None:
        """What the attacker knows of the defense.

        `adaptive`: all, and follows its gradient; `naive`: not that there is one, and attacks the undefended model;
        `transfer`: neither, and attacks another model. None where nothing is defended.
        """
        if not isinstance(self.embedder, DefendedEmbedder):
            return None
        if self.surrogate is None:
            return "adaptive"
        same = self.surrogate.sha256 == self.embedder.sha256 and not self.surrogate.defense
        return "naive" if same else "transfer"

    @property
    def averages(self) -> bool:
        """Whether the attacker's gradients are means over draws."""
        return isinstance(self.embedder, DefendedEmbedder) and self.embedder.random and self.surrogate is None

    def unaware(self) -> "Context":
        """The same, but attacks see the model without its defenses. For pairs."""
        assert isinstance(self.embedder, DefendedEmbedder), "there is a defense to be unaware of"
        return dataclasses.replace(self, surrogate=self.embedder.undefended)

    @functools.cached_property
    def crops(self) -> Crops:
        """The data set's crops by index."""
        return Crops(self.dataset, self.recipe, self.embedder.preset.input_size)

    @functools.cached_property
    def _victims(self) -> "dict[tuple[str, bool], Victim]":
        return {}

    def victim(self, goal: str, *, surrogate: bool = False) -> "Victim":
        """The network under attack for a goal, or what attacks see instead; compiled once for all trials."""
        if (goal, surrogate) not in self._victims:
            self._victims[goal, surrogate] = self._victim(goal, surrogate)
        return self._victims[goal, surrogate]

    def _victim(self, goal: str, surrogate: bool) -> "Victim":
        from tfface.attacks._criteria import GOALS
        from tfface.attacks._transfer import resized
        from tfface.attacks._victim import Victim
        from tfface.training.head import with_head

        model = self.embedder.model
        if surrogate:
            assert self.surrogate is not None, "asked for only where there is one"
            model = resized(self.surrogate.model, self.embedder.model.input_shape[1:3])
        own = self.surrogate if surrogate else self.embedder
        drawn = own.drawn_model if isinstance(own, DefendedEmbedder) and own.random else None
        head = self.surrogate_head if surrogate else self.head
        if goal == "classify":
            assert head is not None, "this goal has a head"
            model, drawn = with_head(model, head), drawn and with_head(drawn, head)
        return Victim(model, GOALS[goal](), drawn=drawn, draws=self.draws)

    def aimed(
        self, attack: "Attack", goal: str, given: np.ndarray, limits: np.ndarray | None, keys: np.ndarray
    ) -> "Attack":
        """The attack as it is made: through the surrogate where there is one.

        Args:
            attack: the attack.
            goal: its goal.
            given: labels or reference images of a batch, as the goal takes them.
            limits: (N,) cosine thresholds of the pairs; None without pairs.
            keys: (N,) names of the images.
        """
        if self.surrogate is None:
            return attack
        from tfface.attacks._transfer import Transfer

        seen = self.victim(goal, surrogate=True)
        return Transfer(inner=attack, surrogate=seen, surrogate_targets=seen.targets(given, limits), keys=keys)

    def record(self) -> dict[str, Any]:
        """JSON-able: all of it that decides a result."""
        surrogate = self.surrogate
        return {
            "preset": self.embedder.preset.name,
            "weights_sha256": self.embedder.sha256,
            **self.embedder.defense_record,
            "recipe": self.recipe.name,
            "detector": DETECTOR if self.recipe.source == "mtcnn" else None,
            "dataset": self.dataset.name,
            "version": self.dataset.version,
            "judged": self.judging.name,
            "surrogate": None if surrogate is None else [surrogate.preset.name, surrogate.sha256],
            "seed": self.seed,
            **({"draws": self.draws} if self.averages else {}),
        }
