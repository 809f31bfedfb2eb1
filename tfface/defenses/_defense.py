"""Base of all defenses: a layer that changes images before the network sees them.

Its forward pass is always the real thing. Its gradient is what an attacker who knows the defense would
use (Athalye et al. 2018, https://arxiv.org/abs/1802.00420): where the operation has none, that of a
differentiable stand-in for it (BPDA); where it draws at random, one draw's, to be averaged over many.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
from keras import ops

from tfface.augmentation.changes import Level, describe
from tfface.models._layers import UnitNorm
from tfface.utils import registry
from tfface.utils.public import Result, Table, UserError

register = keras.saving.register_keras_serializable(package="tfface")


class Defense(keras.layers.Layer):
    """Images (N, H, W, C) in [0, 1] to images that are harder to attack; its options are its arguments.

    Attributes:
        title: for people.
        paper: who proposed it, with the link.
        deterministic: draws nothing at random.
        differentiable: its own gradient tells an attacker where to go; where not, a stand-in's does.
        options: by name, with range and the paper's default.
        copies: of each image that it gives out one after the other; the embeddings are averaged.
    """

    title: ClassVar[str]
    paper: ClassVar[str]
    deterministic: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    options: ClassVar[dict[str, Level]] = {}

    copies: int = 1

    def __init__(self, **arguments: Any) -> None:
        """
        Args:
            **arguments: `options`, and those of every Keras layer.

        Raises:
            UserError: an option out of its range.
        """
        own = {name: arguments.pop(name, level.default) for name, level in self.options.items()}
        super().__init__(**{"dtype": "float32", "trainable": False, **arguments})
        for name, value in own.items():
            setattr(self, name, _checked(self.label, name, value, self.options[name]))

    @property
    def label(self) -> str:
        """Return its name, which is that of its file."""
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    def settings(self) -> dict[str, float]:
        """Return its options as they are."""
        return {name: getattr(self, name) for name in self.options}

    @property
    def short(self) -> str:
        """Return its name with those options alone that are not the defaults; `parse` takes it as well."""
        given = {name: value for name, value in self.settings().items() if value != self.options[name].default}
        parts = ",".join(f"{name}={value:.6g}" for name, value in given.items())
        return f"{self.label}:{parts}" if parts else self.label

    def __str__(self) -> str:
        parts = ",".join(f"{name}={value:.6g}" for name, value in self.settings().items())
        return f"{self.label}:{parts}" if parts else self.label

    def portable(self) -> "Defense":
        """Return the same defense in arithmetic that converts to TFLite; itself where it is that already."""
        return self

    def record(self) -> dict[str, Any]:
        """Return what a result says of it, JSON-able."""
        return {
            "name": self.label,
            "options": self.settings(),
            "deterministic": self.deterministic,
            "differentiable": self.differentiable,
            "paper": self.paper,
        }

    def call(self, images: Any, draws: Any = None) -> Any:
        """Return the images as the network is to see them.

        Args:
            images: (N, H, W, C) in [0, 1].
            draws: int32 (N,), which draw each image is to get, for attacks that average over many: one copy of each
                image comes back. None: the draw of the deployed model, all copies.
        """
        raise NotImplementedError

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings()}


@register
class MeanDirection(UnitNorm):
    """Unit vectors (N * copies, D) to the direction of each image's mean (N, D)."""

    def __init__(self, copies: int, **arguments: Any) -> None:
        """
        Args:
            copies: rows that follow on each other and are of one image.
            **arguments: of every Keras layer.
        """
        super().__init__(**arguments)
        self.copies = copies

    def call(self, inputs: Any) -> Any:
        return super().call(ops.mean(ops.reshape(inputs, (-1, self.copies, inputs.shape[-1])), axis=1))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "copies": self.copies}


def straight_through(
    operation: Callable[[Any], Any], slope: Callable[[Any], Any] | None = None
) -> Callable[[Any], Any]:
    """Apply the operation forward; backward as if it were nothing (BPDA with the identity), or had a slope.

    Args:
        operation: on each value by itself.
        slope: of each value, by which its gradient is multiplied; 1 if absent.
    """

    @ops.custom_gradient
    def passed(values: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            # TensorFlow hands it over by place, other backends by name.
            upstream = arguments[-1] if upstream is None else upstream
            return upstream if slope is None else upstream * slope(values)

        return operation(values), gradient

    return passed


def parse(text: str) -> Defense:
    """Make the defense `NAME` or `NAME:option=number,option=number`.

    Raises:
        UserError: no such defense or option, or a number out of range; lists what there is.
    """
    name, colon, rest = (part.strip() for part in text.partition(":"))
    valid = [found.replace("_", "-") for found in registry.names("defenses")]
    if name.replace("_", "-") not in valid:
        raise registry.unknown("defense", name, valid)
    kind: type[Defense] = registry.load("defenses", name.replace("-", "_")).DEFENSE
    given: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        option, _, value = (piece.strip() for piece in part.partition("="))
        if option not in kind.options:
            raise UserError(
                f"defense {text!r}: {name} has no option {option!r}; it has {describe(kind.options) or 'none'}"
            )
        if option in given:
            raise UserError(f"defense {text!r}: {option} is given twice")
        given[option] = value
    if colon and not given:
        raise UserError(f"defense {text!r}: give options as {name}:option=number, of {describe(kind.options)}")
    return kind(**given)


def _checked(label: str, name: str, value: Any, level: Level) -> float | int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not level.low <= number <= level.high or (level.whole and number != int(number)):
        raise UserError(
            f"defense {label}: {name}={value} is none: {name} takes a {'whole ' * level.whole}number, {level}"
        )
    return int(number) if level.whole else number


@dataclass(frozen=True)
class Defenses(Result):
    """Input defenses by name.

    Attributes:
        kinds: their classes.
    """

    kinds: Mapping[str, type[Defense]]

    def to_dict(self) -> dict[str, Any]:
        """Return title, options with their descriptions, paper and properties of each."""
        return {
            name: {
                "title": kind.title,
                "options": {option: str(level) for option, level in kind.options.items()},
                "deterministic": kind.deterministic,
                "differentiable": kind.differentiable,
                "paper": kind.paper,
            }
            for name, kind in self.kinds.items()
        }

    def tables(self) -> list[Table]:
        words = {True: "yes", False: "no"}
        rows = [
            [name, kind.title, words[kind.deterministic], words[kind.differentiable], describe(kind.options) or "-"]
            for name, kind in self.kinds.items()
        ]
        papers = [[name, kind.paper] for name, kind in self.kinds.items()]
        return [
            Table(["defense", "description", "deterministic", "differentiable", "options"], rows),
            Table(["defense", "paper"], papers),
        ]


def list_defenses() -> Defenses:
    """List the input defenses: options with their ranges and defaults, and what an attacker may know of them.

    Returns:
        A `Defenses`: a table in a notebook, and `to_dict()`.

    Example:
        >>> import tfface
        >>> list(tfface.list_defenses().to_dict())
        ['bit-depth', 'jpeg', 'median', 'noise', 'resize-pad']
    """
    names = registry.names("defenses")
    return Defenses({name.replace("_", "-"): registry.load("defenses", name).DEFENSE for name in names})
