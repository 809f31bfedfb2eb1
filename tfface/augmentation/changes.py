"""Changes of images by name: augmentations to train with, corruptions to measure a model under.

Each name takes a number, as `rotation:20`. Importing this imports neither TensorFlow nor Keras; changing an image does.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfface.errors import UserError
from tfface.utils import registry

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf


@dataclass(frozen=True)
class Level:
    """Meaning and range of the number after a name.

    Attributes:
        unit: of the number, as help and errors show it.
        low: the least that is taken.
        high: the most; where it is not above `low`, the name takes no number.
        default: where none is given; None: one must be.
        whole: only whole numbers are taken.
    """

    unit: str
    low: float = 0.0
    high: float = 0.0
    default: float | None = None
    whole: bool = False

    @property
    def takes_number(self) -> bool:
        return self.high > self.low

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} {self.unit}" if self.takes_number else self.unit


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

CORRUPTIONS = {
    "rotation": Level("degrees, to a side drawn for each image", 0, 180),
    "zoom": Level("times as large", 0.5, 4),
    "brightness": Level("of the full range added", -1, 1),
    "contrast": Level("times the contrast", 0, 4),
    "blur": Level("pixels of Gaussian sigma", 0, 20),
    "jpeg": Level("of quality", 1, 100, whole=True),
    "noise": Level("of the full range, standard deviation of Gaussian noise", 0, 1),
    "occlusion": Level("of the sides of a grey square, at a place drawn for each image", 0, 1),
}
"""What a crop can be measured under; pixels are those of the model's input."""

_FORMAT = 1


def parse(what: str, text: str, levels: Mapping[str, Level]) -> tuple[str, float]:
    """Parse a name and its number.

    Args:
        what: what is named, for the error (`corruption`).
        text: `NAME:number`, or `NAME` where the number has a default.
        levels: by name.

    Raises:
        UserError: no such name, no number where one is needed, or one out of range.
    """
    name, colon, number = (part.strip() for part in text.partition(":"))
    if name not in levels:
        raise UserError(f"{registry.unknown(what, name, list(levels))}; each with its number: {describe(levels)}")
    level = levels[name]
    if not colon and level.default is not None:
        return name, level.default
    if not level.takes_number:
        raise UserError(f"{what} {text!r}: {name} takes no number")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not level.low <= value <= level.high or (level.whole and value != int(value)):
        raise UserError(f"{what} {text!r}: {name} takes a {'whole ' * level.whole}number, {level}")
    return name, value


def describe(levels: Mapping[str, Level]) -> str:
    """Describe the names with their numbers, on one line."""
    parts = []
    for name, level in levels.items():
        default = f", else {level.default:g}" if level.takes_number and level.default is not None else ""
        parts.append(f"{name} ({level}{default})")
    return ", ".join(parts)


def key_number(key: str) -> int:
    """Return the number that an image draws by: of its key alone, whatever else is in the data set."""
    return zlib.crc32(key.encode())


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


@dataclass(frozen=True)
class Corruption:
    """One change of every crop, before the model sees it; faces are found in the photograph as it is.

    Attributes:
        name: one of `CORRUPTIONS`.
        severity: in its unit.
        seed: of what it draws (a side, a place, noise), for each image by its key alone.
    """

    name: str
    severity: float
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.severity:g}"

    def record(self) -> dict[str, Any]:
        """Return what cache keys hold of the corruption, JSON-able."""
        return {"format": _FORMAT, **dataclasses.asdict(self)}

    def change(self) -> "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]":
        """Return a function (image float32 (H, W, 3) in [0, 1], key) -> corrupted image, for a `tf.data` pipeline."""
        import tensorflow as tf

        from tfface.augmentation import fixed_changes
        from tfface.augmentation.random_changes import ImageSeeds

        step, number = getattr(fixed_changes, self.name)(self.severity), key_number(self.name)

        def change(image: "tf.Tensor", key: "tf.Tensor") -> "tf.Tensor":
            return tf.clip_by_value(step(image, ImageSeeds(self.seed, key, number)), 0.0, 1.0)

        return change


def corruption(text: str, seed: int = 0) -> Corruption:
    """Parse the corruption `NAME:severity`.

    Raises:
        UserError: no such corruption, no severity, or one out of range.
    """
    return Corruption(*parse("corruption", text, CORRUPTIONS), seed)
