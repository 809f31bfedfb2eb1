"""The Distiller: a student that learns its teacher's embeddings of the views that it sees.

It does not hold the teacher, whose answers come with the views; so nothing of the teacher is in its checkpoints, and it
trains under every Keras backend.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from tfface.errors import UserError
from tfface.training import losses

_BFLOAT16 = "auto_mixed_precision_onednn_bfloat16"


class WeightAverage(keras.layers.Layer):
    """A running mean of a network's weights over epochs, which does better on new faces than those of one epoch.

    Stochastic weight averaging (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407): weights that training goes
    back and forth between have a middle that fits no batch by heart. Here old epochs fade, so that it may begin with
    the first one. The mean is held as weights, so that checkpoints have it; the statistics of batch normalisation are
    averaged too.
    """

    def __init__(self, network: keras.Model, epochs: int, **kwargs: Any) -> None:
        """
        Args:
            network: with the weights.
            epochs: number of epochs in the mean; older ones fade by 1 - 1/epochs an epoch.
            **kwargs: of every Keras layer.
        """
        super().__init__(trainable=False, **kwargs)
        self.epochs = epochs
        self.means = [
            self.add_weight(shape=variable.shape, dtype=variable.dtype, initializer="zeros", name=f"mean_{index}")
            for index, variable in enumerate(network.variables)
        ]
        self.built = True

    def add(self, network: keras.Model, epoch: int) -> None:
        """Add the weights after an epoch.

        Args:
            network: with the weights.
            epoch: from 0; the mean of the first ones is an even one.
        """
        share = 1 / min(epoch + 1, self.epochs)
        for mean, variable in zip(self.means, network.variables, strict=True):
            # The state of a random generator has no mean.
            whole = not keras.backend.is_float_dtype(variable.dtype)
            mean.assign(ops.copy(variable.value) if whole else mean + share * (variable - mean))

    @contextlib.contextmanager
    def in_place(self, network: keras.Model) -> Iterator[None]:
        """Give the network the mean's weights while the body runs."""
        own = [ops.copy(variable.value) for variable in network.variables]
        try:
            for mean, variable in zip(self.means, network.variables, strict=True):
                # A copy: JAX gives a training step the memory of what it holds, and would give away the mean's.
                variable.assign(ops.copy(mean.value))
            yield
        finally:
            for value, variable in zip(own, network.variables, strict=True):
                variable.assign(value)


@keras.saving.register_keras_serializable(package="tfface")
class Distiller(keras.Model):
    """Trains a student on (views, the teacher's answers).

    Example:
        ```
        distiller = Distiller(student, relation_weight=10.0)
        distiller.compile(optimizer=adamw(...))
        distiller.fit(EpochViews(bank, ...), epochs=60)
        ```
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        relation_weight: float = 10.0,
        contrast_weight: float = 0.0,
        hint_weight: float = 0.0,
        hints: int = 0,
        small_input: int = 0,
        noise: float = 0.0,
        noise_seed: int = 0,
        average_epochs: int = 0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            student: (N, S, S, 3) in [0, 1] to (N, D) unit vectors.
            relation_weight: weight of the loss on the relations inside a batch.
            contrast_weight: weight of the contrastive loss.
            hint_weight: weight of the loss on the teacher's last features, which follow its embedding in the answers.
            hints: number of those features, F; 0 where the answers have none.
            small_input: side of the views where training begins on smaller ones; 0 otherwise.
            noise: standard deviation of Gaussian noise on every view in training, on the scale of [0, 1], not clipped.
            noise_seed: seed of that noise.
            average_epochs: epochs over which the student's weights are averaged (`WeightAverage`); 0 for none.
            **kwargs: of every Keras model.

        Raises:
            UserError: the student cannot see views of that size, or has no features to predict the hints from.
        """
        super().__init__(**kwargs)
        self.student = student
        self.relation_weight = relation_weight
        self.contrast_weight = contrast_weight
        self.hint_weight, self.hints = hint_weight, hints
        self._full = losses.with_features(student) if hints else student
        if hints:
            # Learned beside the student, and left behind with the training.
            self.hint = keras.layers.Dense(hints, use_bias=False, name="hint")
            self.hint.build(self._full.output_shape[1])
        self.small_input = small_input
        self.noise, self.noise_seed = noise, noise_seed
        self._noise = keras.layers.GaussianNoise(noise, seed=noise_seed) if noise else None
        self.small = at_size(self._full, small_input) if small_input else None
        self._small_on = False
        self.cosine = keras.metrics.Mean(name="cosine")
        self.average_epochs = average_epochs
        self.average = WeightAverage(student, average_epochs) if average_epochs else None

    def see_small(self, *, on: bool) -> None:
        """Turn to the smaller views, in training and inference alike, or back to the full size.

        A short end at the full size makes up for a long beginning at a smaller one (Touvron et
        al. 2019, https://arxiv.org/abs/1906.06423).
        """
        self._small_on = on
        self.make_train_function(force=True)
        self.make_predict_function(force=True)

    def call(self, views: Any, training: bool | None = None) -> Any:
        """Embed views: uint8, or float32 in [0, 1], (N, V, V, 3) of any size V, scaled to the student's own.

        Returns:
            (N, D) unit vectors; in training, where there are hints, also its prediction of them, (N, F).
        """
        student = self.small if self._small_on and self.small else self._full
        images = self.pixels(views, student)
        if self._noise is not None:
            images = self._noise(images, training=training)
        if not self.hints:
            return student(images, training=training)
        embeddings, features = student(images, training=training)
        return (embeddings, self.hint(features)) if training else embeddings

    def pixels(self, views: Any, student: keras.Model) -> Any:
        """Return views as a student takes them: float32 in [0, 1], at its size."""
        images = ops.cast(views, "float32")
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(views.dtype)):
            images = images / 255.0
        size = student.input_shape[1:3]
        if tuple(images.shape[1:3]) != tuple(size):
            images = ops.clip(ops.image.resize(images, size, antialias=True, data_format="channels_last"), 0.0, 1.0)
        return images

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the weighted sum of the losses.

        Args:
            x: the views, unused.
            y: the teacher's answers (N, D), float16 ones are scaled to length 1 again; (N, D + F) with hints.
            y_pred: the student's, as `call` gives them.
            sample_weight: unused.
            training: unused.
        """
        teacher = ops.cast(y, "float32")
        hints = foretold = None
        if self.hints:
            teacher, hints = teacher[:, : -self.hints], teacher[:, -self.hints :]
            y_pred, foretold = y_pred
        teacher = losses.unit(teacher)
        student = ops.cast(y_pred, "float32")
        pulled = losses.pull(student, teacher)
        self.cosine.update_state(1.0 - pulled)
        total = pulled + self.relation_weight * losses.relation(student, teacher)
        if self.contrast_weight:
            total = total + self.contrast_weight * losses.contrast(student, teacher)
        if self.hints:
            total = total + self.hint_weight * losses.hint(ops.cast(foretold, "float32"), hints)
        return total

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "student": keras.saving.serialize_keras_object(self.student),
            "relation_weight": self.relation_weight,
            "contrast_weight": self.contrast_weight,
            "hint_weight": self.hint_weight,
            "hints": self.hints,
            "small_input": self.small_input,
            "noise": self.noise,
            "noise_seed": self.noise_seed,
            "average_epochs": self.average_epochs,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Distiller":
        student = keras.saving.deserialize_keras_object(config.pop("student"))
        return cls(student, **config)


def at_size(network: keras.Model, size: int) -> keras.Model:
    """Return the same layers, with the same weights, over square images of another size.

    Raises:
        UserError: its layers take one size only (it flattens its features, say).
    """
    try:
        return keras.models.clone_model(
            network, input_tensors=keras.Input((size, size, 3)), clone_function=lambda layer: layer
        )
    except ValueError as error:
        raise UserError(
            f"{network.name} takes images of {network.input_shape[1]} pixels only, not of {size}: "
            "leave out `small_input`, or choose a student that pools its features",
            parameter="small_input",
        ) from error


def adamw(
    *, learning_rate: float, weight_decay: float, steps: int, warmup: int, floor: float = 0.0
) -> keras.optimizers.Optimizer:
    """Return AdamW whose rate climbs linearly, then falls along a cosine; it depends on the step alone.

    Args:
        learning_rate: the highest.
        weight_decay: of kernels; biases and batch normalisation are left alone.
        steps: of the whole training.
        warmup: steps of the climb.
        floor: share of the highest rate that it falls to.
    """
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=max(steps - warmup, 1), alpha=floor, warmup_target=learning_rate, warmup_steps=warmup
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


@contextlib.contextmanager
def bfloat16_convolutions(*, on: bool = True) -> Iterator[None]:
    """Run TensorFlow functions that are first called inside with convolutions in bfloat16 (8 bits of precision).

    Weights stay float32. Functions called before, or first called after, are left alone. Under
    another Keras backend this does nothing.
    """
    if not on or keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options().get(_BFLOAT16, False)
    tf.config.optimizer.set_experimental_options({_BFLOAT16: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_BFLOAT16: before})
