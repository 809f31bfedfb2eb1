"""Embedders behind defenses: one model with them inside, and the view of it that attacks average over."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tfface.models._embedder import Embedder
from tfface.utils.public import as_list

if TYPE_CHECKING:
    import keras

    from tfface.defenses._defense import Defense

logger = logging.getLogger(__name__)

DRAWS = 10
"""A gradient through a defense that draws at random is the mean of so many draws."""


@dataclass(frozen=True, eq=False)
class DefendedEmbedder(Embedder):
    """An embedder behind defenses, the first of which sees the image first.

    Attributes:
        stack: the defenses.
        undefended: the embedder without them.
        draws: draws whose mean an attack's gradient is, where a defense draws at random.
    """

    stack: "tuple[Defense, ...]" = ()
    undefended: Embedder | None = None
    draws: ClassVar[int] = DRAWS

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process makes the defenses anew from their texts: layers are not sent.
        return apply, (self.undefended, self.defense)

    @property
    def differentiable(self) -> bool:
        assert self.undefended is not None, "made by `apply`"
        return self.undefended.differentiable

    @property
    def random(self) -> bool:
        """Tell if a defense draws at random, so that a gradient is to be averaged over draws."""
        return not all(defense.deterministic for defense in self.stack)

    @functools.cached_property
    def drawn_model(self) -> "keras.Model":
        """Return the model with each image under a draw of one's choice.

        It maps images (N, H, W, 3) and draws int32 (N,) to (N, D). Draw 0 is the deployed model's, where
        that takes one copy of an image. It shares the network's weights.
        """
        import keras

        assert self.undefended is not None, "made by `defended`"
        images = keras.Input(self.undefended.model.input_shape[1:], name="image")
        draws = keras.Input((), dtype="int32", name="draw")
        changed = images
        for defense in self.stack:
            changed = defense(changed, draws)
        return keras.Model([images, draws], self.undefended.model(changed), name="drawn")

    def record(self) -> dict[str, Any]:
        return {**super().record(), "defense_facts": [defense.record() for defense in self.stack]}


def apply(embedder: Embedder, *defenses: str | Sequence[str]) -> Embedder:
    """Put defenses in front of an embedder; without any it is returned as it is.

    Args:
        embedder: the model.
        *defenses: `NAME:option=number`, one or several, in the order in which an image passes through them; see the
            command `defenses` for names and options.

    Raises:
        UserError: no such defense or option.

    Example:
        >>> import tfface
        >>> embedder = tfface.load_embedder("student/lfw-distilled")  # doctest: +SKIP
        >>> tfface.defenses.apply(embedder, "jpeg:quality=75", "median").defense  # doctest: +SKIP
        ('jpeg:quality=75,real=1', 'median:window=2')
    """
    texts = [text for one in defenses for text in as_list(one)]
    if not texts:
        return embedder
    # It imports Keras: a command without a defense does not wait for that.
    from tfface.defenses._defense import parse

    return _defended(embedder, tuple(parse(text) for text in texts))


def portable(embedder: Embedder) -> Embedder:
    """Return an embedder whose defenses are arithmetic that converts to TFLite; a change is logged.

    A JPEG coder is not: the same steps in float arithmetic, which differ by a grey level in the mean, take its place.
    """
    if not isinstance(embedder, DefendedEmbedder):
        return embedder
    stack = tuple(defense.portable() for defense in embedder.stack)
    if tuple(map(str, stack)) == embedder.defense:
        return embedder
    assert embedder.undefended is not None, "made by `apply`"
    logger.warning(
        f"TFLite has no operation for {' and '.join(embedder.defense)}: {' and '.join(map(str, stack))} is used"
    )
    return _defended(embedder.undefended, stack)


def _defended(embedder: Embedder, stack: "tuple[Defense, ...]") -> DefendedEmbedder:
    return DefendedEmbedder(
        embedder.preset,
        embedder.sha256,
        functools.partial(_build, embedder, stack),
        defense=tuple(map(str, stack)),
        stack=stack,
        undefended=embedder,
    )


def _build(embedder: Embedder, stack: "tuple[Defense, ...]") -> "keras.Model":
    import keras

    from tfface.defenses._defense import MeanDirection

    network = embedder.model
    inputs = keras.Input(network.input_shape[1:], name="image")
    changed, copies = inputs, 1
    for defense in stack:
        changed = defense(changed)
        copies *= defense.copies
    vectors = network(changed)
    model = keras.Model(inputs, MeanDirection(copies)(vectors) if copies > 1 else vectors, name="defended")
    model.trainable = False
    return model
