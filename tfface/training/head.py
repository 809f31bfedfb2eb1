"""A classifier of a few people on a frozen embedder: the network that the paper's Table 2 attacks."""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfface.errors import UserError
from tfface.utils.files import atomic_write, cache_dir, digest_of, lock, user_path


@dataclass(frozen=True)
class HeadSettings:
    """Configuration of a head's training; all of it decides the result.

    Attributes:
        hidden: units of a layer between (ReLU); 0 for a linear head.
        steps: of Adam, each over all embeddings.
        learning_rate: of Adam.
        seed: of the first weights.
    """

    hidden: int = 0
    steps: int = 300
    learning_rate: float = 0.01
    seed: int = 0

    def record(self) -> dict[str, Any]:
        """Return it JSON-able, for fingerprints and results."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class Head:
    """A trained head: its people, its weights, and facts of its training.

    Attributes:
        people: in the order of the logits.
        weights: kernel (in, out) and bias (out,) of each dense layer, ReLU between them; float32.
        facts: JSON-able: the base's preset and hash, recipe, data set, keys of its training and test
            photographs, settings.
    """

    people: tuple[str, ...]
    weights: tuple[tuple[np.ndarray, np.ndarray], ...]
    facts: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Hash of people and weights."""
        digest = hashlib.sha256(json.dumps(self.people).encode())
        for array in self._arrays():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def network(self) -> keras.Model:
        """Build the network of (N, D) embeddings to (N, people) logits."""
        model = _network(self.weights[0][0].shape[0], self._sizes(), seed=0)
        model.set_weights(self._arrays())
        return model

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Compute logits (N, people) of embeddings (N, D), without a network."""
        values = vectors
        for number, (kernel, bias) in enumerate(self.weights, start=1):
            values = values @ kernel + bias
            if number < len(self.weights):
                values = np.maximum(values, 0)
        return values

    def save(self, path: str | Path) -> None:
        """Write plain arrays, to be read with `numpy.load(path, allow_pickle=False)`."""
        arrays: dict[str, Any] = {f"weight_{number}": array for number, array in enumerate(self._arrays())}
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file, people=np.array(self.people), facts=np.array(json.dumps(self.facts)), allow_pickle=False, **arrays
            )

    @classmethod
    def load(cls, path: str | Path) -> "Head":
        """Read a file that `save` wrote.

        Raises:
            UserError: the file cannot be read, or is no head.
        """
        path = user_path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = [file[f"weight_{number}"] for number in range(len(file.files) - 2)]
                head = cls(
                    tuple(file["people"].tolist()),
                    tuple(zip(arrays[::2], arrays[1::2], strict=True)),
                    json.loads(str(file["facts"])),
                )
                sound = bool(arrays) and arrays[-1].shape == (len(head.people),) and isinstance(head.facts, dict)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} is no saved head: give a head.npz that an attack of the criterion classify wrote"
            ) from error
        if not sound:
            raise UserError(f"{path} is no saved head: its weights do not fit its people")
        return head

    def _arrays(self) -> list[np.ndarray]:
        return [array for layer in self.weights for array in layer]

    def _sizes(self) -> list[int]:
        return [len(bias) for _, bias in self.weights]


def train_head(
    vectors: np.ndarray,
    labels: np.ndarray,
    people: tuple[str, ...],
    *,
    facts: dict[str, Any] | None = None,
    settings: HeadSettings | None = None,
) -> Head:
    """Train a head on embeddings of the frozen base.

    Every step sees all of them, so nothing but the first weights is drawn at random.

    Args:
        vectors: (N, D) float32 embeddings.
        labels: (N,) int, positions in `people`.
        people: the classes.
        facts: of the data, JSON-able, for later readers.
        settings: of the training; the defaults if None.

    Raises:
        UserError: one of the people has no embedding.
    """
    settings = settings or HeadSettings()
    absent = [name for label, name in enumerate(people) if not (labels == label).any()]
    if absent:
        raise UserError(f"no photograph of {', '.join(absent)} can be used to train a head: take other people")
    sizes = [settings.hidden, len(people)] if settings.hidden else [len(people)]
    model = _network(vectors.shape[1], sizes, seed=settings.seed)
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    # One epoch of many steps: what Keras does around an epoch would take far longer than a step.
    steps = tf.data.Dataset.from_tensors((vectors, labels)).repeat(settings.steps)
    model.fit(steps, steps_per_epoch=settings.steps, epochs=1, shuffle=False, verbose=0)
    arrays = model.get_weights()
    weights = tuple(zip(arrays[::2], arrays[1::2], strict=True))
    return Head(tuple(people), weights, {**(facts or {}), "settings": settings.record()})


def cached_head(
    examples: Callable[[], tuple[np.ndarray, np.ndarray]],
    people: tuple[str, ...],
    *,
    facts: dict[str, Any],
    settings: HeadSettings,
) -> Head:
    """Return the cached head of `facts` and `settings`; trained first if there is none.

    Args:
        examples: gives embeddings and labels, as `train_head` takes them.
        people: the classes.
        facts: all that the embeddings and labels depend on.
        settings: of the training.
    """
    path = cache_dir("heads") / f"{digest_of({**facts, 'settings': settings.record()})}.npz"
    with lock(path):
        if not path.exists():
            train_head(*examples(), people, facts=facts, settings=settings).save(path)
    return Head.load(path)


def with_head(embedder: keras.Model, head: Head) -> keras.Model:
    """Join an embedder and a head: a classifier of images.

    Args:
        embedder: (N, H, W, 3) in [0, 1] to (N, D) unit vectors.
        head: trained on its embeddings.

    Returns:
        A model from (N, H, W, 3) in [0, 1] to (N, people) logits, differentiable down to the image.

    Raises:
        UserError: the head takes embeddings of another length.
    """
    length = head.weights[0][0].shape[0]
    if embedder.output_shape[-1] != length:
        raise UserError(
            f"the head takes embeddings of {length} values, the model gives {embedder.output_shape[-1]}: "
            "train a head on this model"
        )
    network = head.network()
    network.trainable = False
    return keras.Model(embedder.input, network(embedder.output), name="classifier")


def _network(length: int, sizes: list[int], *, seed: int) -> keras.Model:
    inputs = keras.Input((length,), name="embedding")
    x = inputs
    for number, units in enumerate(sizes):
        x = layers.Dense(
            units,
            activation=None if number == len(sizes) - 1 else "relu",
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed + number),
            name=f"dense_{number}",
        )(x)
    return keras.Model(inputs, x, name="head")
