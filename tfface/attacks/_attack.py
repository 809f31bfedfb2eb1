"""Base of all attacks, and the loop of gradient attacks.

An attack proposes images; `run` brings them into the budget and judges them itself, on the final
image, because it does not trust what an attack returns.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfface.attacks import _norms
from tfface.attacks._criteria import Criterion
from tfface.attacks._victim import Batch, Victim, as_victim, metric_of
from tfface.errors import UserError

Judge = Callable[[np.ndarray], np.ndarray]
"""Images (N, H, W, 3) as attacked to images as they are judged (see `tfface.attacks._quantization`)."""


@dataclass(frozen=True)
class Outcome:
    """Result of an attack on N images.

    Attributes:
        images: (N, H, W, 3) float32 in [0, 1], as they were judged.
        success: (N,) bool.
        margin: (N,) by how much the criterion is met; negative where it is not.
        distance: (N,) of `images` from the clean ones, in the unit of epsilon. Rounding before the judgement
            may add to it.
    """

    images: np.ndarray
    success: np.ndarray
    margin: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Attack(abc.ABC):
    """A way to change images within a budget; its fields are its hyperparameters.

    Attributes:
        norm: in which the change is measured, one of `norms`.

    Example:
        >>> import keras, numpy as np
        >>> from tfface import attacks, criteria
        >>> model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
        >>> images = np.full((1, 4, 4, 3), 0.5, np.float32)
        >>> labels = np.argmax(model(images), axis=1)
        >>> outcome = attacks.FGSM()(model, images, criteria.Misclassification(labels), epsilon=1.0)
        >>> outcome.images.shape, outcome.success.shape
        ((1, 4, 4, 3), (1,))
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

    def __call__(
        self, embedder: Any, images: np.ndarray, criterion: Criterion, epsilon: float | np.ndarray, *, seed: int = 0
    ) -> Outcome:
        """Attack images.

        Args:
            embedder: an `Embedder`, defended or not, or a `keras.Model`; for black-box attacks any function from
                images to outputs.
            images: clean, (N, H, W, 3) float32 in [0, 1], of the model's input size.
            criterion: success of the attack, with its labels or references (see `tfface.criteria`).
            epsilon: budget in [0, 1], one for all images or (N,).
            seed: random seed.

        Raises:
            UserError: images, criterion and model do not fit, or the model gives no gradients.
        """
        attack, victim, targets = self.aimed_at(embedder, images, criterion)
        return run(attack, victim, images, targets, epsilon, seed=seed)

    def aimed_at(self, embedder: Any, images: np.ndarray, criterion: Criterion) -> "tuple[Attack, Victim, np.ndarray]":
        """Return the attack as it is made, the model as it sees it, and the targets; arguments as of a call."""
        victim = as_victim(embedder, criterion, images)
        if not (victim.differentiable or self.black_box):
            raise UserError(
                f"{self.title} follows gradients, and {victim.name} gives none: take Square, or Transfer from another "
                "model",
                parameter="embedder",
            )
        return self, victim, criterion.own_targets(victim.outputs, metric_of(embedder))

    @property
    def attempts(self) -> int:
        """Return how often `run` tries it afresh on an image that resists."""
        return 1

    def record(self) -> dict[str, Any]:
        """Return its hyperparameters, JSON-able."""
        return dataclasses.asdict(self)

    @abc.abstractmethod
    def perturb(self, victim: Victim, batch: Batch) -> np.ndarray:
        """Return the attack's own result, (N, H, W, 3), which `run` clips, projects and judges.

        All randomness about an image comes from (seed, its key, restart).

        Args:
            victim: the model and the criterion.
            batch: images to attack.
        """

    def proposals(self, victim: Victim, batch: Batch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (rows, images of these rows), best first: the first that succeeds on the final image is taken."""
        yield np.arange(len(batch)), self.perturb(victim, batch)


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
    """Attack a batch and judge every image after clipping and projecting it.

    Of several attempts at an image the first that succeeds is returned, else the one of the highest margin.

    Args:
        attack: the attack.
        victim: the model and the criterion.
        images: clean, (N, H, W, 3) float32 in [0, 1].
        targets: the criterion's, from `victim.targets`.
        epsilon: the budget in [0, 1], one for all or (N,).
        seed: random seed.
        keys: (N,) integers that name the images; their places if absent.
        judge: applied to images before they are judged (see `tfface.attacks._quantization`).

    Raises:
        UserError: images of the wrong shape or range, or an epsilon outside [0, 1].
    """
    return run_batch(attack, victim, Batch.checked(victim, images, targets, epsilon, keys=keys, seed=seed), judge)


def run_batch(attack: Attack, victim: Victim, batch: Batch, judge: Judge | None = None) -> Outcome:
    """Attack a batch that was checked before; otherwise as `run`."""
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
            _take_better(found, tried, judged(victim, final, clean, targets, attack.norm, judge))
    return found


def random_start(batch: Batch, norm: str) -> np.ndarray:
    """Draw a point of each image's ball, clipped to [0, 1], from (seed, its key, restart) alone."""
    shape, draw = batch.images.shape[1:], {"seed": batch.seed, "restart": batch.restart}
    changes = np.stack([_norms.random_change(shape, norm, key=key, **draw) for key in batch.keys.tolist()])
    return (batch.images + batch.epsilon[:, None, None, None] * changes).clip(0, 1)


def into_budget(proposed: np.ndarray, clean: np.ndarray, epsilon: np.ndarray, norm: str) -> np.ndarray:
    """Clip images to [0, 1] and project them onto the ball; values that are no numbers become the clean ones."""
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
    """Judge final images by the victim."""
    seen = final if judge is None else np.asarray(judge(final), np.float32)
    success, margin = victim.assess(seen, targets)
    return Outcome(seen, success, margin, _norms.distance(seen, clean, norm))


def _take_better(found: Outcome, rows: np.ndarray, new: Outcome) -> None:
    # A row without a margin yet holds the clean image: whatever an attempt gave takes its place.
    better = new.success | (new.margin > found.margin[rows]) | np.isneginf(found.margin[rows])
    taken = rows[better]
    for field in dataclasses.fields(Outcome):
        getattr(found, field.name)[taken] = getattr(new, field.name)[better]


@dataclass(frozen=True, kw_only=True)
class GradientAttack(Attack):
    """An attack that climbs the loss: gradient, step, projection, and again.

    A subclass sets where the loop starts, in which direction it steps and how far. FGSM is this loop with one step.

    Attributes:
        steps: gradients taken.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise UserError(f"{self.title} needs at least one step, not {self.steps}")

    @property
    def plain(self) -> bool:
        """Tell if it follows the gradient at its iterate: it has no `ascent` of its own."""
        return type(self).ascent is GradientAttack.ascent

    def start(self, batch: Batch) -> np.ndarray:
        """Return the loop's start, (N, H, W, C): the clean images unless an attack says otherwise."""
        return batch.images

    def direction(self, gradient: tf.Tensor, velocity: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (direction of length 1, state of the next step)."""
        return _norms.steepest(gradient, self.norm), velocity

    def step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Return (N,) lengths of a step, in the unit of epsilon."""
        return epsilon

    def ascent(
        self, victim: Victim, batch: Batch, images: tf.Tensor, velocity: tf.Tensor, carried: dict[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the gradient (N, H, W, C) that a step follows, and the success (N,) of `images`.

        Args:
            victim: the model and the criterion.
            batch: images to attack.
            images: the iterate.
            velocity: state of the last step's direction.
            carried: `step`, the number of the step; whatever an attack adds is there at the next.
        """
        gradient, success, _ = victim.gradient(images, batch.targets)
        return gradient, success

    def move(
        self, images: tf.Tensor, velocity: tf.Tensor, gradient: tf.Tensor, clean: tf.Tensor, epsilon: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Take one step from `images`, back onto the ball and into [0, 1]; return (images, velocity)."""
        direction, velocity = self.direction(gradient, velocity)
        moved = images + tf.reshape(self.step_size(epsilon), (-1, 1, 1, 1)) * direction
        return tf.clip_by_value(_norms.project(moved, clean, epsilon, self.norm), 0.0, 1.0), velocity

    def perturb(self, victim: Victim, batch: Batch) -> np.ndarray:
        """Return the last iterate."""
        return self._climb(victim, batch)[0]

    def proposals(self, victim: Victim, batch: Batch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the last iterate; then, since it may have stepped out again, the last of those that succeeded."""
        last, succeeded, ever = self._climb(victim, batch)
        yield np.arange(len(batch)), last
        yield np.flatnonzero(ever), succeeded[ever]

    def _climb(self, victim: Victim, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (last iterate, last iterate that succeeded before it, whether one did)."""
        move, start = victim.compiled(("move", self), self.move), self.start(batch)
        current = tf.constant(start)
        clean = current if start is batch.images else tf.constant(batch.images)
        epsilon, velocity = tf.constant(batch.epsilon, tf.float32), tf.zeros_like(clean)
        succeeded, ever = current, tf.zeros(len(batch), tf.bool)
        carried: dict[str, Any] = {}
        for number in range(self.steps):
            carried["step"] = number
            gradient, success = self.ascent(victim, batch, current, velocity, carried)
            if tf.reduce_any(success):
                succeeded = tf.where(success[:, None, None, None], current, succeeded)
                ever |= success
            current, velocity = move(current, velocity, gradient, clean, epsilon)
        return current.numpy(), succeeded.numpy(), ever.numpy()


@dataclass(frozen=True, kw_only=True)
class IterativeAttack(GradientAttack):
    """Small steps of a length of one's own (Kurakin et al. 2017, https://arxiv.org/abs/1607.02533).

    Attributes:
        steps: number of steps.
        alpha: length of a step, in the unit of epsilon. None: 2.5 epsilon / steps, so that the steps reach the
            ball's edge and can turn there.
    """

    steps: int = 20
    alpha: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None and not 0 < self.alpha <= 1:
            raise UserError(f"a step of {self.alpha} is outside (0, 1], the unit of epsilon", parameter="step_size")

    def step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        return 2.5 / self.steps * epsilon if self.alpha is None else tf.fill(tf.shape(epsilon), self.alpha)
