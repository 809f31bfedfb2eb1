"""One training: callbacks around `fit` that wait for views, validate, save checkpoints, and report."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tfface.training.checkpoints import Checkpoints, History, rank
from tfface.training.config import Settings
from tfface.training.distiller import Distiller, adamw, bfloat16_convolutions
from tfface.training.validation import Score, Validation, hard_validation
from tfface.training.view_bank import EpochViews, view_of_epoch
from tfface.utils.progress import progress

logger = logging.getLogger(__name__)

_VALIDATION_BATCH = 64


def train(
    student: keras.Model,
    batches: EpochViews,
    validation: Validation,
    checkpoints: Checkpoints,
    settings: Settings,
    *,
    wait_for_view: Callable[[int], None],
    on_epoch: Callable[[History], None] = lambda history: None,
) -> None:
    """Train a student to the last epoch, from wherever its checkpoints stand.

    Args:
        student: with fresh weights.
        batches: of the bank.
        validation: ranks the epochs.
        checkpoints: of this run.
        settings: of this run.
        wait_for_view: returns when a view number can be read.
        on_epoch: called with the history after every epoch.
    """
    if checkpoints.stopped or checkpoints.epochs >= settings.epochs:
        return
    distiller = compiled(student, settings, steps_per_epoch=len(batches), hints=batches.bank.hints)
    checkpoints.restore(distiller)
    wait_for_view(view_of_epoch(checkpoints.epochs, settings.views, settings.seed))
    batches.start(checkpoints.epochs)
    callbacks = [
        _Views(batches, settings, wait_for_view),
        _Reporting(settings.epochs, len(batches)),
        _Validating(validation, checkpoints, settings, batch_size=batches.batch_size, on_epoch=on_epoch),
    ]
    with bfloat16_convolutions(on=settings.precision == "bfloat16"):
        for small, end in ((True, min(settings.small_epochs, settings.epochs)), (False, settings.epochs)):
            if checkpoints.stopped or checkpoints.epochs >= end:
                continue
            distiller.see_small(on=small)
            distiller.fit(
                batches,
                epochs=end,
                initial_epoch=checkpoints.epochs,
                callbacks=callbacks,
                verbose=0,
                shuffle=False,
            )


def compiled(student: keras.Model, settings: Settings, *, steps_per_epoch: int, hints: int = 0) -> Distiller:
    """Return a Distiller with its optimizer, built, so that a checkpoint can fill both.

    Args:
        student: the network to train.
        settings: of the run.
        steps_per_epoch: batches.
        hints: features in the teacher's answers.

    Raises:
        UserError: the student cannot see views of the smaller size.
    """
    distiller = _distiller(student, settings, steps_per_epoch, hints)
    optimizer = adamw(
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        steps=settings.epochs * steps_per_epoch,
        warmup=settings.warmup * steps_per_epoch,
        floor=settings.rate_floor,
    )
    # XLA is slower than oneDNN's kernels on a processor; JAX knows nothing else.
    distiller.compile(optimizer=optimizer, jit_compile=keras.backend.backend() == "jax")
    distiller.build((None, *student.input_shape[1:]))
    optimizer.build(distiller.trainable_variables)
    return distiller


def _distiller(student: keras.Model, settings: Settings, steps_per_epoch: int, hints: int) -> Distiller:
    """Return the Distiller of these settings."""
    common: dict[str, Any] = {
        "relation_weight": settings.relation_weight,
        "contrast_weight": settings.contrast_weight,
        "average_epochs": settings.average_epochs,
    }
    hardening = settings.hardening
    if hardening is not None and hardening.adversarial:
        # It is written in TensorFlow: loaded only where it trains.
        from tfface.training.adversarial import AdversarialDistiller

        return AdversarialDistiller(
            student,
            method=hardening.method,
            epsilon=hardening.epsilon,
            alpha=hardening.alpha,
            attack_steps=hardening.attack_steps,
            weight=hardening.weight,
            climb_steps=hardening.climb * steps_per_epoch,
            seed=settings.seed,
            **common,
        )
    return Distiller(
        student,
        small_input=settings.small_input if settings.small_epochs else 0,
        noise=hardening.sigma if hardening else 0.0,
        noise_seed=settings.seed,
        hint_weight=settings.hint_weight,
        hints=hints,
        **common,
    )


class _Views(keras.callbacks.Callback):
    """Turns the batches to each epoch's view, waiting for it."""

    def __init__(self, batches: EpochViews, settings: Settings, wait_for_view: Callable[[int], None]) -> None:
        super().__init__()
        self._batches, self._settings, self._wait = batches, settings, wait_for_view

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._wait(view_of_epoch(epoch, self._settings.views, self._settings.seed))
        self._batches.start(epoch)


class _Reporting(keras.callbacks.Callback):
    """A progress bar over an epoch's batches, or a line now and then."""

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__()
        self._epochs, self._steps = epochs, steps
        self._bar: Iterator[int] = iter(())

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        label = f"epoch {epoch + 1} of {self._epochs}"
        self._bar = progress(range(self._steps), total=self._steps, label=label, unit="batches")
        next(self._bar, None)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        next(self._bar, None)


class _Validating(keras.callbacks.Callback):
    """Scores each epoch, saves its checkpoint, and stops when validation no longer gains."""

    def __init__(
        self,
        validation: Validation,
        checkpoints: Checkpoints,
        settings: Settings,
        *,
        batch_size: int,
        on_epoch: Callable[[History], None],
    ) -> None:
        super().__init__()
        self._validation, self._checkpoints, self._settings = validation, checkpoints, settings
        self._batch_size, self._on_epoch = batch_size, on_epoch
        self._begin, self._steps = time.monotonic(), 0
        self._hard: Callable[[float], float] | None = None

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        hardening, seed = self._settings.hardening, self._settings.seed
        if hardening is not None:
            self._hard = hard_validation(self._validation, model.student, hardening, seed=seed)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._begin, self._steps = time.monotonic(), 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._steps += 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = time.monotonic() - self._begin
        logs = logs or {}
        student, average = self.model.student, self.model.average
        if average:
            average.add(student, epoch)
        with average.in_place(student) if average else contextlib.nullcontext():
            score: Score = self._validation.score(self._embed)
            hard = {"hard_accuracy": self._hard(score.threshold)} if self._hard else {}
        record = {
            "loss": float(logs["loss"]),
            "cosine": float(logs["cosine"]),
            "accuracy": score.accuracy,
            "threshold": score.threshold,
            "auc": score.auc,
            **hard,
            **({"small_input": self._settings.small_input} if epoch < self._settings.small_epochs else {}),
        }
        best = self._checkpoints.best_epoch
        waited = 0 if best is None else epoch - best
        stop = bool(self._settings.patience) and waited >= self._settings.patience
        stop = stop and rank(record) <= rank(self._checkpoints.history[best or 0])
        weights = average.means if average else student.variables
        self._checkpoints.save(self.model, weights, record, stopped=stop)
        self._on_epoch(self._checkpoints.history)
        best = self._checkpoints.best_epoch or 0
        highest = self._checkpoints.history[best]["accuracy"]
        attacked = f"{record['hard_accuracy']:.2%} when attacked or noisy, " if hard else ""
        small = f"at {record['small_input']} pixels, " if "small_input" in record else ""
        logger.warning(
            f"epoch {epoch + 1} of {self._settings.epochs}: loss {record['loss']:.4f}, cosine {record['cosine']:.4f}, "
            f"validation {record['accuracy']:.2%}, AUC {record['auc']:.4f} (best epoch {best + 1}, {highest:.2%}), "
            f"{small}{attacked}{self._steps * self._batch_size / seconds:.0f} images/s"
        )
        if stop:
            logger.warning(f"no better validation in {waited} epochs: stopping")
            self.model.stop_training = True

    def _embed(self, images: np.ndarray) -> np.ndarray:
        # One batch at a time: `predict` builds a new pipeline at each call, whose memory adds up.
        return np.concatenate(
            [
                np.asarray(self.model.predict_on_batch(images[start : start + _VALIDATION_BATCH]))
                for start in range(0, len(images), _VALIDATION_BATCH)
            ]
        )
