"""A preset as a TFLite file: one image of bytes in, one vector out, builtin operations alone."""

import re
import tempfile
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfface.artifacts.artifact import FLOAT_SIGNATURE, SIGNATURE
from tfface.errors import UserError
from tfface.utils.tensorflow_logs import held_stderr

if TYPE_CHECKING:
    import keras


class _Single(tf.Module):
    """One image at a time: a fixed shape is what accelerators of phones take."""

    def __init__(self, model: "keras.Model", size: int) -> None:
        super().__init__(name="tfface")
        self._variables = [weight.value for weight in model.weights]
        shape = (1, size, size, 3)

        def embed_float(image: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"embedding": model(image, training=False)}

        def embed(image: tf.Tensor) -> dict[str, tf.Tensor]:
            return embed_float(tf.cast(image, tf.float32) / 255.0)

        self.of_floats = tf.function(embed_float, input_signature=[tf.TensorSpec(shape, tf.float32, "image")])
        self.of_bytes = tf.function(embed, input_signature=[tf.TensorSpec(shape, tf.uint8, "image")])


def convert(model: "keras.Model", size: int, quantization: str, calibration: np.ndarray | None = None) -> bytes:
    """Converts an embedder.

    The file's signature `embed` takes `image`, uint8 (1, S, S, 3), and gives `embedding`, float32
    (1, D). An unquantised file also has `embed_float`, which takes the image in [0, 1]; both share
    their weights.

    Args:
        model: (N, S, S, 3) in [0, 1] to (N, D) unit vectors.
        size: S.
        quantization: `none`; `float16` weights; `dynamic`: int8 weights; `int8`: activations too.
        calibration: for `int8`: float32 (N, S, S, 3) in [0, 1], typical crops.

    Raises:
        UserError: TFLite has no builtin operation for a part of the model; names it.
    """
    single = _Single(model, size)
    with tempfile.TemporaryDirectory() as folder:
        # From int8, an image of bytes is one of [0, 1] in steps of 1/255: the input's own quantisation.
        signatures = {SIGNATURE: single.of_floats if quantization == "int8" else single.of_bytes}
        if quantization == "none":
            signatures[FLOAT_SIGNATURE] = single.of_floats
        failure: Exception | None = None
        with held_stderr():
            tf.saved_model.save(single, folder, signatures=signatures)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
            _set_quantization(converter, quantization, calibration)
            try:
                return converter.convert()
            except Exception as error:  # what it raises has changed with every version
                failure = error
    raise UserError(f"TFLite cannot hold {model.name}: {_reason(model, str(failure))}; export it as a SavedModel")


def _set_quantization(converter: tf.lite.TFLiteConverter, quantization: str, calibration: np.ndarray | None) -> None:
    if quantization == "none":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        assert calibration is not None, "int8 is calibrated on images"
        images = calibration.copy()
        # The range of the input is that of all bytes, whatever the photographs: steps of exactly 1/255.
        images[0, 0, 0, 0], images[0, 0, 1, 0] = 0, 1
        converter.representative_dataset = lambda: ({"image": image[None]} for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8


def _reason(model: "keras.Model", message: str) -> str:
    """Which operation it has no builtin for, and in which layer, as far as the converter says."""
    lines = [line for line in message.splitlines() if "op is neither" in line]
    if not lines:
        return message.strip().splitlines()[0] if message.strip() else "the converter does not say why"
    operations = sorted({match[1] for line in lines if (match := re.search(r"'tf\.(\w+)' op is neither", line))})
    # A path is the network, the layer, and what the layer calls; a second trace numbers each.
    paths = [match[1].split("/") for line in lines if (match := re.search(r'"([^"@]+)@', line))]
    parts = {re.sub(r"_\d+$", "", part) for path in paths for part in path} | {part for path in paths for part in path}
    layers = [layer.name for layer in model.layers if layer.name in parts]
    where = f" (layer {', '.join(layers)})" if layers else ""
    return f"it has no builtin operation for {', '.join(operations)}{where}"
