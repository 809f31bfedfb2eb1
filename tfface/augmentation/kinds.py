"""Kinds of augmentation, and images augmented by (seed, image, copy)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfface.augmentation.levels import Level, key_number, parse
from tfface.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

KINDS = {
    "flip": Level("mirrored half of the time", default=0.5),
    "rotation": Level("degrees at most, each way", 0, 180, default=20),
    "zoom": Level("of the sides at most, in or out", 0, 0.9, default=0.2),
    "crop": Level("of the sides cut off, anywhere", 0, 0.9, default=0.15),
    "brightness": Level("of the full range at most, each way", 0, 1, default=0.2),
    "contrast": Level("of it at most, each way", 0, 1, default=0.3),
    "blur": Level("pixels of Gaussian sigma at most", 0, 20, default=1.5),
    "jpeg": Level("is the lowest quality", 1, 100, default=40, whole=True),
}
"""By name, in the order in which an image passes through them: a camera turns before it compresses."""

PAPER = ("rotation", "zoom", "flip")
"""Those that the paper augments with."""


@dataclass(frozen=True)
class Kind:
    """One kind of change and its greatest strength, in the unit of `KINDS`."""

    name: str
    strength: float

    def __str__(self) -> str:
        return f"{self.name}:{self.strength:g}" if KINDS[self.name].takes_number else self.name


def kinds(texts: Iterable[str | Kind]) -> tuple[Kind, ...]:
    """Parse `NAME` or `NAME:strength` of each kind; return them in the order in which they are applied.

    Raises:
        UserError: no such kind, a strength out of range, one kind twice, or none at all.
    """
    found = [text if isinstance(text, Kind) else Kind(*parse("augmentation", text, KINDS)) for text in texts]
    names = [kind.name for kind in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"augmentation {twice} is named twice: name each kind once")
    if not found:
        raise UserError(f"no kind of augmentation is named: name some of {', '.join(KINDS)}")
    return tuple(sorted(found, key=lambda kind: list(KINDS).index(kind.name)))


def augment_batch(
    images: "np.ndarray",
    *,
    kinds: Iterable[str | Kind] = PAPER,
    seed: int,
    keys: "np.ndarray",
    copy: int = 0,
) -> "np.ndarray":
    """Augment images; each draws from (seed, its key, copy, kind) alone, whatever it is batched with.

    A pipeline is built at each call, which takes about half a second: give it many images at once.

    Args:
        images: (N, H, W, 3) float32 in [0, 1].
        kinds: `NAME` or `NAME:strength`, see `KINDS`.
        seed: random seed.
        keys: (N,) int, a number for each image.
        copy: which of an image's copies this is; an epoch's number, where each epoch is to differ.

    Returns:
        (N, H, W, 3) float32 in [0, 1].

    Raises:
        UserError: no such kind, or a strength out of range.
    """
    import numpy as np
    import tensorflow as tf

    change = _change(kinds, seed)
    images = np.asarray(images, np.float32)
    if not len(images):
        return images
    elements = tf.data.Dataset.from_tensor_slices((images, np.asarray(keys, np.int64)))
    changed = elements.map(lambda image, key: change(image, key, copy), tf.data.AUTOTUNE, deterministic=True)
    return np.stack(list(changed.as_numpy_iterator()))


def augmented(
    dataset: "tf.data.Dataset", kinds: Iterable[str | Kind] = PAPER, *, seed: int, copies: int = 1
) -> "tf.data.Dataset":
    """Augment a pipeline's images; each copy draws from (seed, key, copy, kind) alone.

    Args:
        dataset: elements (image float32 (H, W, 3) in [0, 1], key int64 scalar, and whatever else).
        kinds: `NAME` or `NAME:strength`, see `KINDS`.
        seed: random seed.
        copies: number of copies of each image.

    Returns:
        Elements (changed image, key, copy int64 from 0, and whatever else); an image's copies follow on each other.

    Raises:
        UserError: no such kind, or a strength out of range.
    """
    import tensorflow as tf

    change = _change(kinds, seed)

    def repeat(*element: "tf.Tensor") -> "tf.data.Dataset":
        return tf.data.Dataset.range(copies).map(lambda copy: (*element[:2], copy, *element[2:]))

    def changed(image: "tf.Tensor", key: "tf.Tensor", copy: "tf.Tensor", *more: "tf.Tensor") -> tuple:
        return change(image, key, copy), key, copy, *more

    return dataset.flat_map(repeat).map(changed, tf.data.AUTOTUNE, deterministic=True)


def _change(texts: Iterable[str | Kind], seed: int) -> Callable[..., "tf.Tensor"]:
    """Return a function (image (H, W, 3), key, copy) -> changed image, for a `tf.data` pipeline."""
    import tensorflow as tf

    from tfface.augmentation import random_changes

    steps = [(key_number(kind.name), getattr(random_changes, kind.name)(kind.strength)) for kind in kinds(texts)]

    def change(image: "tf.Tensor", key: Any, copy: Any) -> "tf.Tensor":
        for number, step in steps:
            # Seeds for each kind: one kind more leaves what the others draw as it was.
            image = step(image, random_changes.ImageSeeds(seed, key, copy, number))
        return tf.clip_by_value(image, 0.0, 1.0)

    return change
