"""Convolutions in bfloat16, where the processor has it."""

import contextlib
from collections.abc import Iterator

_OPTION = "auto_mixed_precision_onednn_bfloat16"


@contextlib.contextmanager
def bfloat16_convolutions(*, on: bool = True) -> Iterator[None]:
    """TensorFlow functions first called inside run convolutions and products in bfloat16 (8 bits of precision).

    Weights stay float32. What was called before, or is first called after, is left alone. Under
    another Keras backend this does nothing.
    """
    import keras

    if not on or keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options().get(_OPTION, False)
    tf.config.optimizer.set_experimental_options({_OPTION: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_OPTION: before})
