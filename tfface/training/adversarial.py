"""Adversarial distillation: a student learns its teacher's answers to views that are attacked as it learns.

The attack is PGD in L-infinity inside the compiled training step: from a random point of the ball
it ascends the cosine distance between the student's embedding of the changed view and the
teacher's answer to the clean one.

- PGD-AT (Madry et al. 2018, https://arxiv.org/abs/1706.06083) then takes the step of ordinary
  distillation on the attacked views alone.
- TRADES (Zhang et al. 2019, https://arxiv.org/abs/1901.08573) takes it on the clean views, with
  the mean cosine distance between each view's embedding and its attacked one's added, through the
  attacked one alone (as Miyato et al. 2018 do, https://arxiv.org/abs/1704.03976). The clean pass
  then needs its gradients once, for the weights and at the views, and what it gives at the views
  is the attack's first gradient: a pass less for each step.

The attack sees the network as an attacker of the finished student would: in inference mode, with
the moving averages, which it does not touch (Pang et al. 2021, https://arxiv.org/abs/2010.00467,
found this no worse than attacking in training mode, and kinder to clean accuracy). The training
step then normalises by the batch that it trains on, the attacked one included.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfface.errors import UserError
from tfface.models._layers import CenteredConv2D
from tfface.training import losses
from tfface.training.distiller import Distiller

_MOST_CHANNELS = 4
"""Input channels up to which a strided convolution is worth it."""


@keras.saving.register_keras_serializable(package="tfface")
class AdversarialDistiller(Distiller):
    """Trains a student on (views, the teacher's answers), attacking the views first.

    Its attack is written in TensorFlow. What it draws depends on (seed, the optimizer's step), so a
    resumed training draws the same.

    Example:
        ```
        distiller = AdversarialDistiller(student, method="pgd-at", epsilon=8 / 255, alpha=0.03, attack_steps=3)
        distiller.compile(optimizer=adamw(...))
        distiller.fit(EpochViews(bank, ...), epochs=60)
        ```
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        epsilon: float,
        alpha: float,
        attack_steps: int,
        method: str = "pgd-at",
        weight: float = 6.0,
        climb_steps: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            student: (N, S, S, 3) in [0, 1] to (N, D) unit vectors.
            epsilon: largest change of a value.
            alpha: size of a step of the attack.
            attack_steps: gradients of the attack.
            method: `pgd-at` or `trades`.
            weight: weight of TRADES' second term.
            climb_steps: training steps in which epsilon, and alpha with it, climb from 0.
            seed: random seed of the attacks' starts.
            **kwargs: of the Distiller.

        Raises:
            UserError: Keras runs on another backend than TensorFlow.
        """
        if keras.backend.backend() != "tensorflow":
            raise UserError(
                f"adversarial training runs on TensorFlow, not on {keras.backend.backend()}: unset KERAS_BACKEND"
            )
        super().__init__(student, **kwargs)
        self.epsilon, self.alpha, self.attack_steps = epsilon, alpha, attack_steps
        self.method, self.weight, self.climb_steps, self.seed = method, weight, climb_steps, seed
        # A function to Keras, no layer of this model: its weights are the student's.
        self._fast = functools.partial(with_fast_input_gradient(student))

    def train_step(self, data: Any) -> Any:
        views, answers = data[0], data[1]
        clean = self.pixels(views, self.student)
        if self.method == "trades":
            return self._trades_step(clean, answers)
        return super().train_step((self.attack(clean, answers), answers))

    def _trades_step(self, clean: Any, answers: Any) -> Any:
        weights = self.trainable_weights
        with tf.GradientTape() as tape:
            tape.watch(clean)
            embedded = self._fast(clean, training=True)
            plain = self.compute_loss(clean, answers, embedded)
        *gradients, at_views = tape.gradient(plain, [*weights, clean])
        attacked = self.attack(clean, answers, first=at_views)
        with tf.GradientTape() as tape:
            drift = self.weight * losses.pull(self.student(attacked, training=True), tf.stop_gradient(embedded))
        total = [one + other for one, other in zip(gradients, tape.gradient(drift, weights), strict=True)]
        self.optimizer.apply_gradients(zip(total, weights, strict=True))
        self._loss_tracker.update_state(plain + drift, sample_weight=tf.shape(clean)[0])
        return self.get_metrics_result()

    def attack(self, images: Any, answers: Any, first: Any = None) -> Any:
        """Attack a batch.

        Args:
            images: (N, S, S, 3) float32 in [0, 1].
            answers: (N, D), the teacher's for them.
            first: gradient that the first step ascends; if None, that of the cosine distance between the answers and
                the student's, at the random start.

        Returns:
            (N, S, S, 3) in [0, 1], within this step's epsilon of the images; no gradient passes.
        """
        share = self._share()
        epsilon, alpha = share * self.epsilon, share * self.alpha
        answers = tf.cast(answers, tf.float32)
        start = self._start(images.shape[1:], tf.shape(images)[0])
        passes = self.attack_steps
        if first is None:
            moved = _begun(images, *start, epsilon)
        else:
            moved = _first_climbed(images, *start, first, alpha, epsilon)
            passes -= 1
        for _ in range(passes):
            moved = _climbed(moved, self._gradient(moved, answers), images, alpha, epsilon)
        return tf.stop_gradient(moved)

    def _gradient(self, images: Any, answers: Any) -> Any:
        """Return the gradient of the cosine distance between the student's embeddings at inference and the answers."""
        # Only the images are watched: gradients of the weights would cost as much again.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            distance = -tf.reduce_sum(self._fast(images, training=False) * answers)
        return tape.gradient(distance, images)

    def get_config(self) -> dict[str, Any]:
        own = ("epsilon", "alpha", "attack_steps", "method", "weight", "climb_steps", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}

    def _share(self) -> Any:
        """Return the share of epsilon at this step."""
        if not self.climb_steps:
            return 1.0
        return ops.minimum(ops.cast(self.optimizer.iterations + 1, "float32") / self.climb_steps, 1.0)

    def _start(self, shape: Any, count: Any) -> tuple[Any, Any]:
        """Draw a uniform point of the ball of size 1, and for each image that point or the opposite one.

        A draw for every image would cost as much as a tenth of a plain step.

        Returns:
            shape, in [-1, 1], and (count, 1, 1, 1), -1 or 1.
        """
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(self.optimizer.iterations, tf.int64)])
        start = tf.random.stateless_uniform(shape, seed, -1.0, 1.0)
        sides = tf.random.stateless_uniform([count, 1, 1, 1], tf.random.fold_in(seed, 1), -1.0, 1.0)
        return start, tf.where(sides < 0.0, -1.0, 1.0)


def _fused(update: Callable[..., Any]) -> Callable[..., Any]:
    """Compile into one pass over the pixels, where TensorFlow makes one of each operation."""

    @functools.cache
    def compiled() -> Callable[..., Any]:
        return tf.function(update, jit_compile=True)

    return functools.wraps(update)(lambda *given: compiled()(*given))


@_fused
def _begun(images: Any, start: Any, side: Any, epsilon: Any) -> Any:
    """Move images to a point of their ball: epsilon times that of `_start`."""
    return ops.clip(images + epsilon * side * start, 0.0, 1.0)


@_fused
def _climbed(moved: Any, gradient: Any, images: Any, alpha: Any, epsilon: Any) -> Any:
    """Take one step up the gradient's sign, back into the images' ball and into [0, 1]."""
    low, high = ops.maximum(images - epsilon, 0.0), ops.minimum(images + epsilon, 1.0)
    return ops.minimum(ops.maximum(moved + alpha * ops.sign(gradient), low), high)


@_fused
def _first_climbed(images: Any, start: Any, side: Any, gradient: Any, alpha: Any, epsilon: Any) -> Any:
    """Do both in one pass."""
    return _climbed(_begun(images, start, side, epsilon), gradient, images, alpha, epsilon)


def with_fast_input_gradient(network: keras.Model) -> keras.Model:
    """Return the same network with a faster gradient at its image.

    An attack inside training needs the gradient at the input, where the libraries are slow: a convolution with a stride
    over three colours is the largest part of a small network's attack step. Written over blocks of pixels (space to
    depth) the same convolution has no stride and many channels, and its gradient at the input is a plain product.

    Args:
        network: functional, over square images; convolutions that do not fit are left as they are.

    Returns:
        A model that shares every weight.
    """
    return keras.models.clone_model(
        network,
        input_tensors=keras.Input(network.input_shape[1:]),
        clone_function=lambda layer: _Unstrided(layer) if _fits(layer) else layer,
    )


def _fits(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) in (keras.layers.Conv2D, CenteredConv2D)
        and layer.strides[0] == layer.strides[1] > 1
        and layer.padding == "valid"
        and layer.groups == 1
        and tuple(layer.dilation_rate) == (1, 1)
        and layer.data_format == "channels_last"
        and not layer.use_bias
        and layer.kernel.shape[0] == layer.kernel.shape[1]
        and layer.kernel.shape[2] <= _MOST_CHANNELS
        and layer.activation is keras.activations.linear
    )


class _Unstrided(keras.layers.Layer):
    """A strided convolution whose gradient at its input is taken over blocks of stride x stride pixels."""

    def __init__(self, convolution: keras.layers.Conv2D) -> None:
        super().__init__(name=f"{convolution.name}_unstrided", trainable=False)
        self._convolution = convolution
        self._stride = convolution.strides[0]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self._convolution.compute_output_shape(input_shape)

    def call(self, images: Any) -> Any:
        stride, size = self._stride, images.shape[1]

        @tf.custom_gradient
        def convolve(images: tf.Tensor, kernel: tf.Tensor) -> Any:
            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                # Whichever of the two is not asked for is pruned from a compiled step.
                of_kernel = tf.raw_ops.Conv2DBackpropFilter(
                    input=images,
                    filter_sizes=tf.shape(kernel),
                    out_backprop=upstream,
                    strides=[1, stride, stride, 1],
                    padding="VALID",
                )
                return _input_gradient(upstream, kernel, stride, size), of_kernel

            return tf.nn.conv2d(images, kernel, stride, "VALID"), gradient

        kernel = tf.convert_to_tensor(self._convolution.kernel)
        if isinstance(self._convolution, CenteredConv2D):
            return self._convolution.centered(convolve, images, kernel)
        return convolve(images, kernel)


def _input_gradient(upstream: tf.Tensor, kernel: tf.Tensor, stride: int, size: int) -> tf.Tensor:
    """Compute the gradient at the input of a convolution without padding, from that at its output.

    Args:
        upstream: (N, M, M, F).
        kernel: (K, K, C, F).
        stride: of the convolution.
        size: side of its input.
    """
    side, _, channels, filters = kernel.shape
    blocks = -(-side // stride)
    filled = tf.pad(kernel, [[0, blocks * stride - side]] * 2 + [[0, 0]] * 2)
    # A block's pixels become channels: row by row, a row's colours together.
    folded = tf.reshape(filled, (blocks, stride, blocks, stride, channels, filters))
    folded = tf.reshape(tf.transpose(folded, (0, 2, 1, 3, 4, 5)), (blocks, blocks, stride * stride * channels, filters))
    across = upstream.shape[1] + blocks - 1
    shape = (tf.shape(upstream)[0], across, across, stride * stride * channels)
    blocked = tf.nn.conv2d_transpose(upstream, folded, shape, 1, "VALID")
    # What depth_to_space does, at a third of the time.
    rows = tf.reshape(blocked, (-1, across, across, stride, stride * channels))
    found = tf.reshape(tf.transpose(rows, (0, 1, 3, 2, 4)), (-1, across * stride, across * stride, channels))
    missing = size - across * stride
    if missing > 0:
        return tf.pad(found, [[0, 0], [0, missing], [0, missing], [0, 0]])
    return found[:, :size, :size]
