"""The model under attack, and the images of one batch."""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfface.attacks._criteria import GOALS, Criterion
from tfface.errors import UserError


class Victim:
    """A differentiable model under attack for a criterion, with its compiled functions.

    They are traced once, at their first use, for any batch size.

    Attributes:
        model: an embedder, or a head on one that gives logits; images (N, H, W, 3) in [0, 1] in.
        goal: the criterion of attacks on it, or its name.
        input_shape: (H, W, C) of its images.
        drawn: for a model that draws at random: the same with the draw as a second input, int32 (N,).
        draws: gradients are averaged over so many draws.
        differentiable: it gives gradients.
    """

    differentiable = True

    def __init__(
        self, model: keras.Model, goal: Criterion | str, *, drawn: keras.Model | None = None, draws: int = 1
    ) -> None:
        """
        Args:
            model: as above.
            goal: as above.
            drawn: as above; draw 0 is the model's own, which no gradient looks at.
            draws: as above.
        """
        self.model = model
        self.goal = GOALS[goal]() if isinstance(goal, str) else goal
        self.drawn = drawn
        self.draws = draws
        self.input_shape = tuple(model.input_shape[1:])
        self._compiled: dict[Hashable, Callable[..., Any]] = {}

    @property
    def name(self) -> str:
        """Return the model's name, for records."""
        return str(self.model.name)

    def outputs(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Return the model's outputs for a batch of images."""
        return self.compiled("outputs", self.forward)(images)

    def targets(self, given: np.ndarray, thresholds: float | np.ndarray | None = None) -> np.ndarray:
        """Return the criterion's targets for this model (see `Criterion.targets`)."""
        return self.goal.targets(self.outputs, given, thresholds)

    def assess(self, images: np.ndarray | tf.Tensor, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (N,) bool success and (N,) float32 margin; an output that is not a number is no success."""
        success, margin = self.compiled("assess", self._assess)(images, self._cast(targets))
        success, margin = success.numpy(), margin.numpy()
        return success & np.isfinite(margin), margin

    def gradient(
        self, images: np.ndarray | tf.Tensor, targets: np.ndarray | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the loss's gradient at the images (N, H, W, C), and their success and margin (N,).

        For a model that draws at random, the mean over draws of the attacker's own (expectation over transformation,
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
        """Return a function of tensors whose first axis is the batch, compiled once for any batch size."""
        if key not in self._compiled:
            self._compiled[key] = _compiled(function)
        return self._compiled[key]

    def forward(self, images: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        """Return the outputs inside a compiled function: the model's own, or under a draw (N,)."""
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


class QueriedVictim(Victim):
    """A model that is known by its answers alone: any function of images, for black-box attacks.

    Attributes:
        function: images (N, H, W, 3) float32 in [0, 1] to outputs (N, D).
    """

    differentiable = False
    drawn = None
    draws = 1

    def __init__(
        self,
        function: Callable[[np.ndarray], Any],
        goal: Criterion | str,
        input_shape: tuple[int, ...],
        name: str = "function",
    ) -> None:
        """
        Args:
            function: as above.
            goal: the criterion of attacks on it, or its name.
            input_shape: (H, W, C) of its images.
            name: for messages.
        """
        self.function = function
        self.goal = GOALS[goal]() if isinstance(goal, str) else goal
        self.input_shape = tuple(input_shape)
        self._name = name
        self._compiled = {}

    @property
    def name(self) -> str:
        return self._name

    def outputs(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        return tf.constant(np.asarray(self.function(np.asarray(images)), np.float32))

    def assess(self, images: np.ndarray | tf.Tensor, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        success, margin = (part.numpy() for part in self._judge(self.outputs(images), self._cast(targets)))
        return success & np.isfinite(margin), margin

    def gradient(
        self, images: np.ndarray | tf.Tensor, targets: np.ndarray | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        raise UserError(
            f"{self.name} gives no gradients: attack it with `square`, or through a surrogate", parameter="attack"
        )

    def forward(self, images: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        raise UserError(f"{self.name} gives no gradients: attack it with `square`", parameter="attack")

    def _judge(self, outputs: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.goal.success(outputs, targets), self.goal.margin(outputs, targets)


def as_victim(embedder: Any, goal: Criterion, images: np.ndarray) -> Victim:
    """Return the model to attack for an embedder.

    Args:
        embedder: an `Embedder` (defended or not), a `keras.Model`, or any function from images (N, H, W, 3) to
            outputs (N, D), which gives no gradients.
        goal: the criterion.
        images: (N, H, W, 3) to attack, whose size a function is taken to have.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(embedder, keras.Model):
        return _known(embedder, goal, None, 1)
    if getattr(embedder, "differentiable", True) and isinstance(getattr(embedder, "model", None), keras.Model):
        drawn = embedder.drawn_model if getattr(embedder, "random", False) else None
        return _known(embedder.model, goal, drawn, 1 if drawn is None else embedder.draws)
    function = getattr(embedder, "embed", embedder)
    if not callable(function):
        raise UserError(
            f"`embedder` is {type(embedder).__name__}: give an embedder, a Keras model or a function of images",
            parameter="embedder",
        )
    preset = getattr(embedder, "preset", None)
    name = preset.name if preset else getattr(embedder, "__name__", type(embedder).__name__)
    return QueriedVictim(function, goal, np.shape(images)[1:], name)


def metric_of(embedder: Any) -> str:
    """Return the metric of an embedder's thresholds; `cosine` where it states none."""
    preset = getattr(embedder, "preset", None)
    return str(preset.metric) if preset else "cosine"


@functools.lru_cache(maxsize=4)
def _known(model: keras.Model, goal: Criterion, drawn: keras.Model | None, draws: int) -> Victim:
    """Return the victim of an earlier call, whose functions are compiled, where it is the same."""
    return Victim(model, goal, drawn=drawn, draws=draws)


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


@dataclass(frozen=True, eq=False)
class Batch:
    """Images under attack, each with its target, its budget and its name.

    Attributes:
        images: clean, (N, H, W, 3) float32 in [0, 1].
        targets: the criterion's, one row an image.
        epsilon: (N,) float32, the budget of each image.
        keys: (N,) integers that name the images.
        seed: random seed.
        restart: number of the attack's attempt.
    """

    images: np.ndarray
    targets: np.ndarray
    epsilon: np.ndarray
    keys: np.ndarray
    seed: int = 0
    restart: int = 0

    @classmethod
    def checked(
        cls,
        victim: Victim,
        images: np.ndarray,
        targets: np.ndarray,
        epsilon: float | np.ndarray,
        *,
        keys: np.ndarray | None = None,
        seed: int = 0,
    ) -> "Batch":
        """Check images and budgets, and make a batch of them.

        Args:
            victim: whose input size the images must have.
            images: as above.
            targets: as above.
            epsilon: one for all, or (N,).
            keys: as above; the images' places if absent.
            seed: as above.

        Raises:
            UserError: images of the wrong shape or range, targets of another length, or an epsilon outside [0, 1].
        """
        images = np.asarray(images, np.float32)
        if images.shape[1:] != victim.input_shape:
            raise UserError(
                f"images are {images.shape[1:]}, the attacked model takes {victim.input_shape}: resize them"
            )
        if len(targets) != len(images):
            raise UserError(f"{len(targets)} targets for {len(images)} images: give one an image")
        # Written so that a value which is no number is caught too.
        if images.size and not (images.min() >= 0 and images.max() <= 1):
            raise UserError("images to attack must be finite and in [0, 1]: divide 8-bit images by 255")
        budget = np.broadcast_to(np.asarray(epsilon, np.float32), len(images))
        if not ((budget >= 0) & (budget <= 1)).all():
            raise UserError(f"epsilon {epsilon} is outside [0, 1], the range of an image's values")
        names = np.arange(len(images)) if keys is None else np.asarray(keys)
        return cls(images, np.asarray(targets), budget, names, seed)

    def __len__(self) -> int:
        return len(self.images)

    def of(self, rows: Any, **changes: Any) -> "Batch":
        """Return those at some rows; `changes` as of `dataclasses.replace`."""
        parts = {name: getattr(self, name)[rows] for name in ("images", "targets", "epsilon", "keys")}
        return dataclasses.replace(self, **{**parts, **changes})

    def at(self, epsilon: float | np.ndarray) -> "Batch":
        """Return the same with other budgets, one for all or (N,)."""
        return dataclasses.replace(self, epsilon=np.broadcast_to(np.asarray(epsilon, np.float32), len(self)))
