"""What every attack is, and who judges it.

An attack proposes images; `run` brings them into the budget and judges them itself, on the final
image, because it does not trust what an attack returns.
"""

import abc
import dataclasses
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from tfface.attacks import _norms
from tfface.attacks._batch import Batch
from tfface.attacks._criteria import Criterion
from tfface.errors import UserError

if TYPE_CHECKING:
    import keras

Judge = Callable[[np.ndarray], np.ndarray]


class Victim:
    """A differentiable model under attack for a goal, with its compiled functions.

    They are traced once, at their first use, for any batch size.

    Attributes:
        model: an embedder, or a head on one that gives logits; images (N, H, W, 3) in [0, 1] in. It judges.
        goal: what attacks on it want.
        input_shape: (H, W, C) of its images.
        drawn: of a model that draws at random: the same with the draw as a second input, int32 (N,).
        draws: gradients are averaged over so many of them.
    """

    def __init__(
        self, model: "keras.Model", goal: Criterion, *, drawn: "keras.Model | None" = None, draws: int = 1
    ) -> None:
        """
        Args:
            model: as above.
            goal: as above.
            drawn: as above; draw 0 is the model's own, which no gradient looks at.
            draws: as above.
        """
        self.model = model
        self.goal = goal
        self.drawn = drawn
        self.draws = draws
        self.input_shape = tuple(model.input_shape[1:])
        self._compiled: dict[Hashable, Callable[..., Any]] = {}

    def outputs(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The model's outputs for a batch of images."""
        return self.compiled("outputs", self.forward)(images)

    def targets(self, given: np.ndarray, thresholds: float | np.ndarray | None = None) -> np.ndarray:
        """The goal's targets for this model (see `Goal.targets`)."""
        return self.goal.targets(self.outputs, given, thresholds)

    def assess(self, images: np.ndarray | tf.Tensor, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) bool success and (N,) float32 margin; an output that is not a number is no success."""
        success, margin = self.compiled("assess", self._assess)(images, self._cast(targets))
        success, margin = success.numpy(), margin.numpy()
        return success & np.isfinite(margin), margin

    def gradient(
        self, images: np.ndarray | tf.Tensor, targets: np.ndarray | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The loss's gradient at the images (N, H, W, C), and their success and margin (N,).

        Of a model that draws at random, the mean over draws of the attacker's own (expectation over transformation,
        Athalye et al. 2018, https://arxiv.org/abs/1707.07397); success is that of the mean margin.
        """
        targets = self._cast(targets)
        if self.drawn is None:
            return self.compiled("gradient", self._gradient)(images, targets)
        images = tf.convert_to_tensor(images)
        numbers = (tf.fill([len(images)], number) for number in range(1, self.draws + 1))
        step = self.compiled("drawn gradient", self._gradient)
        gradients, _, margins = zip(*(step(images, targets, number) for number in numbers), strict=True)
        margin = tf.add_n(margins) / self.draws
        return tf.add_n(gradients) / self.draws, margin > 0, margin

    def compiled(self, key: Hashable, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of tensors whose first axis is the batch, compiled once for any batch size."""
        if key not in self._compiled:
            self._compiled[key] = _compiled(function)
        return self._compiled[key]

    def forward(self, images: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        """The outputs inside a compiled function: the model's own, or under a draw (N,) where it draws at random."""
        if draw is None or self.drawn is None:
            return self.model(images, training=False)
        return self.drawn([images, tf.cast(draw, tf.int32)], training=False)

    def _assess(self, images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = self.forward(images)
        return self.goal.success(outputs, targets), self.goal.margin(outputs, targets)

    def _gradient(
        self, images: tf.Tensor, targets: tf.Tensor, draw: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # Only the images are watched: the gradient of the weights would cost as much again.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            outputs = self.forward(images, draw)
            loss = self.goal.loss(outputs, targets)
        gradient = tape.gradient(loss, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return gradient, self.goal.success(outputs, targets), self.goal.margin(outputs, targets)

    def _cast(self, targets: np.ndarray | tf.Tensor) -> tf.Tensor:
        return tf.cast(targets, self.goal.dtype)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    traced: Callable[..., Any] | None = None

    def call(*arguments: np.ndarray | tf.Tensor) -> Any:
        nonlocal traced
        tensors = [tf.convert_to_tensor(argument) for argument in arguments]
        if traced is None:
            signature = [tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in tensors]
            traced = tf.function(function, input_signature=signature)
        return traced(*tensors)

    return call


@dataclass(frozen=True, kw_only=True)
class Attack(abc.ABC):
    """A way to change images within a budget; its fields are its hyperparameters.

    Attributes:
        norm: in which the change is measured, one of `norms`.
    """

    title: ClassVar[str]
    paper: ClassVar[str]
    norms: ClassVar[tuple[str, ...]] = _norms.NORMS
    deterministic: ClassVar[bool] = True
    """No seed plays a part in it."""
    black_box: ClassVar[bool] = False
    """It sees what the victim answers, not its gradient."""
    minimal_norm: ClassVar[bool] = False
    """It finds its own distance instead of filling a budget."""

    norm: str = "linf"

    def __post_init__(self) -> None:
        if self.norm not in self.norms:
            raise UserError(f"{self.title} knows no norm {self.norm!r}; valid: {', '.join(self.norms)}")

    @property
    def attempts(self) -> int:
        """How often `run` tries it afresh on an image that resists."""
        return 1

    def record(self) -> dict[str, Any]:
        """Its hyperparameters, JSON-able."""
        return dataclasses.asdict(self)

    @abc.abstractmethod
    def perturb(self, victim: Victim, batch: Batch) -> np.ndarray:
        """The attack's own result, (N, H, W, 3), which `run` clips, projects and judges.

        What is random about an image comes from (seed, its key, restart) alone.

        Args:
            victim: the model and the goal.
            batch: what to attack.
        """

    def proposals(self, victim: Victim, batch: Batch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows, images of these rows), best first: the first that succeeds on the final image is taken."""
        yield np.arange(len(batch)), self.perturb(victim, batch)


@dataclass(frozen=True)
class Outcome:
    """What became of each attacked image.

    Attributes:
        images: (N, H, W, 3) float32 in [0, 1], as the judge saw them.
        success: (N,) bool.
        margin: (N,) by how much the goal is reached; negative where it is not.
        distance: (N,) of `images` from the clean ones, in the unit of epsilon. A judge that rounds
            may add its own to it.
    """

    images: np.ndarray
    success: np.ndarray
    margin: np.ndarray
    distance: np.ndarray


def run(
    attack: Attack,
    victim: Victim,
    images: np.ndarray,
    targets: np.ndarray,
    epsilon: float | np.ndarray,
    *,
    seed: int = 0,
    keys: np.ndarray | None = None,
    judge: Judge | None = None,
) -> Outcome:
    """Attacks a batch and judges every image after clipping and projecting it.

    Of several attempts at an image the first that succeeds is kept, else the one of the highest margin.

    Args:
        attack: the attack.
        victim: the model and the goal.
        images: clean, (N, H, W, 3) float32 in [0, 1].
        targets: the goal's, from `victim.targets`.
        epsilon: the budget in [0, 1], one for all or (N,).
        seed: of everything drawn at random.
        keys: (N,) whole numbers that name the images; their places if absent.
        judge: applied to images before they are judged (see `tfface.attacks._quantization`).

    Raises:
        UserError: images of the wrong shape or range, or an epsilon outside [0, 1].
    """
    return run_batch(attack, victim, Batch.checked(victim, images, targets, epsilon, keys=keys, seed=seed), judge)


def run_batch(attack: Attack, victim: Victim, batch: Batch, judge: Judge | None = None) -> Outcome:
    """`run` on a batch that was looked at before."""
    count = len(batch)
    found = Outcome(batch.images.copy(), np.zeros(count, bool), np.full(count, -np.inf), np.zeros(count))
    for restart in range(attack.attempts):
        rows = np.flatnonzero(~found.success)
        if not len(rows):
            break
        for within, proposed in attack.proposals(victim, batch.of(rows, restart=restart)):
            left = ~found.success[rows[within]]
            if not left.any():
                continue
            tried = rows[within[left]]
            clean, targets = batch.images[tried], batch.targets[tried]
            final = into_budget(proposed[left], clean, batch.epsilon[tried], attack.norm)
            _keep_better(found, tried, judged(victim, final, clean, targets, attack.norm, judge))
    return found


def into_budget(proposed: np.ndarray, clean: np.ndarray, epsilon: np.ndarray, norm: str) -> np.ndarray:
    """Images clipped to [0, 1] and projected onto the ball; values that are no numbers become the clean ones."""
    proposed = np.where(np.isfinite(proposed), proposed, clean).clip(0, 1).astype(np.float32)
    return _norms.project(proposed, clean, epsilon.astype(np.float32), norm).numpy().clip(0, 1)


def judged(
    victim: Victim,
    final: np.ndarray,
    clean: np.ndarray,
    targets: np.ndarray,
    norm: str,
    judge: Judge | None = None,
) -> Outcome:
    """What the victim makes of final images."""
    seen = final if judge is None else np.asarray(judge(final), np.float32)
    success, margin = victim.assess(seen, targets)
    return Outcome(seen, success, margin, _norms.distance(seen, clean, norm))


def _keep_better(found: Outcome, rows: np.ndarray, new: Outcome) -> None:
    # A row without a margin yet holds the clean image: whatever an attempt gave takes its place.
    better = new.success | (new.margin > found.margin[rows]) | np.isneginf(found.margin[rows])
    kept = rows[better]
    for field in dataclasses.fields(Outcome):
        getattr(found, field.name)[kept] = getattr(new, field.name)[better]
