"""Adversarial distillation: a student learns its teacher's answers to views that are attacked as it learns.

The attack is PGD in L-infinity inside the compiled training step: from a random point of the ball
it ascends the cosine distance between the student's embedding of the changed view and the
teacher's answer to the clean one.

- PGD-AT (Madry et al. 2018, https://arxiv.org/abs/1706.06083) then takes the step of ordinary
  distillation on the attacked views alone.
- TRADES (Zhang et al. 2019, https://arxiv.org/abs/1901.08573) takes it on the clean views, with
  the mean cosine distance between each view's embedding and its attacked one's added. Both go
  through the network in one batch, with common statistics.

The attack sees the network as an attacker of the finished student would: in inference mode, with
the moving averages, which it does not touch (Pang et al. 2021, https://arxiv.org/abs/2010.00467,
found this no worse than attacking in training mode, and kinder to clean accuracy). The training
step then normalises by the batch that it trains on, the attacked one included.
"""

import functools
from typing import Any

import keras
from keras import ops

from tfface.errors import UserError
from tfface.training import losses
from tfface.training.distillation import Distiller


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
            alpha: how far a step of the attack goes.
            attack_steps: gradients of the attack.
            method: `pgd-at` or `trades`.
            weight: of TRADES' second term.
            climb_steps: training steps in which epsilon, and alpha with it, climb from 0.
            seed: of the attacks' random starts.
            **kwargs: of the Distiller.

        Raises:
            UserError: Keras runs on another backend than TensorFlow.
        """
        if keras.backend.backend() != "tensorflow":
            raise UserError(
                f"adversarial training runs on TensorFlow, not on {keras.backend.backend()}: unset KERAS_BACKEND"
            )
        from tfface.training.input_gradient import with_fast_input_gradient

        super().__init__(student, **kwargs)
        self.epsilon, self.alpha, self.attack_steps = epsilon, alpha, attack_steps
        self.method, self.weight, self.climb_steps, self.seed = method, weight, climb_steps, seed
        # A function to Keras, no layer of this model: its weights are the student's.
        self._attacked = functools.partial(with_fast_input_gradient(student), training=False)

    def train_step(self, data: Any) -> Any:
        views, answers = data[0], data[1]
        clean = self.pixels(views, self.student)
        attacked = self.attack(clean, answers)
        seen = ops.concatenate([clean, attacked]) if self.method == "trades" else attacked
        return super().train_step((seen, answers))

    def attack(self, images: Any, answers: Any) -> Any:
        """Attacks a batch.

        Args:
            images: (N, S, S, 3) float32 in [0, 1].
            answers: (N, D), the teacher's for them.

        Returns:
            (N, S, S, 3) in [0, 1], within this step's epsilon of the images; no gradient passes.
        """
        import tensorflow as tf

        share = self._share()
        epsilon, alpha = share * self.epsilon, share * self.alpha
        low, high = tf.maximum(images - epsilon, 0.0), tf.minimum(images + epsilon, 1.0)
        answers = tf.cast(answers, tf.float32)
        moved = tf.clip_by_value(images + epsilon * self._start(tf.shape(images)), 0.0, 1.0)
        for _ in range(self.attack_steps):
            # Only the images are watched: gradients of the weights would cost as much again.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(moved)
                cosine = tf.reduce_sum(self._attacked(moved) * answers)
            gradient = tape.gradient(cosine, moved)
            moved = tf.clip_by_value(moved - alpha * tf.sign(gradient), low, high)
        return tf.stop_gradient(moved)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """As the Distiller's; TRADES' second term is added where views are followed by their attacked ones."""
        if self.method != "trades":
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        clean, attacked = ops.split(ops.cast(y_pred, "float32"), 2)
        plain = super().compute_loss(x, y, clean, sample_weight, training)
        return plain + self.weight * losses.pull(attacked, clean)

    def get_config(self) -> dict[str, Any]:
        own = ("epsilon", "alpha", "attack_steps", "method", "weight", "climb_steps", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}

    def _share(self) -> Any:
        """Of epsilon, at this step."""
        if not self.climb_steps:
            return 1.0
        return ops.minimum(ops.cast(self.optimizer.iterations + 1, "float32") / self.climb_steps, 1.0)

    def _start(self, shape: Any) -> Any:
        """Uniform in [-1, 1], on 256 levels: four of them from one drawn integer, at a third of the time."""
        import tensorflow as tf

        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(self.optimizer.iterations, tf.int64)])
        words = -(-tf.reduce_prod(shape) // 4)
        drawn = tf.random.stateless_uniform([words], seed, minval=None, maxval=None, dtype=tf.int32)
        levels = tf.reshape(tf.bitcast(drawn, tf.uint8), [-1])[: tf.reduce_prod(shape)]
        return tf.reshape(tf.cast(levels, tf.float32) / 127.5 - 1.0, shape)
