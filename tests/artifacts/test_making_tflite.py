import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfface.artifacts.making import convert
from tfface.errors import UserError


@keras.saving.register_keras_serializable(package="tests")
class InverseErrorFunction(keras.layers.Layer):
    """TFLite has no operation for it."""

    def call(self, inputs):
        return tf.math.erfinv(0.9 * keras.ops.tanh(inputs))


def signature(path, name="embed"):
    return Interpreter(str(path)).get_signature_runner(name)


@pytest.mark.parametrize("quantization", ["none", "float16", "dynamic", "int8"])
def test_bytes_in_floats_out(made, quantization):
    runner = signature(made("tflite", quantization).path)
    image, embedding = runner.get_input_details()["image"], runner.get_output_details()["embedding"]
    assert (image["dtype"], image["shape"].tolist()) == (np.uint8, [1, 32, 32, 3])
    assert (embedding["dtype"], embedding["shape"].tolist()) == (np.float32, [1, 16])


@pytest.mark.parametrize(("quantization", "least"), [("none", 1 - 1e-6), ("float16", 0.9999), ("dynamic", 0.999)])
def test_answers_as_the_keras_model_does(made, tiny_embedder, crops, quantization, least):
    found = made("tflite", quantization).embedder(as_bytes=True).embed(crops)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found * tiny_embedder.embed(crops)).sum(1).min() > least


def test_int8_answers_nearly_so(made, tiny_embedder, some_faces):
    from tfface.data.crops import crop_stream as cropped
    from tfface.preprocessing.images import recipe

    images = np.stack([crop.numpy() for crop, _ in cropped(some_faces, recipe("center-140"), 32)])
    found = made("tflite", "int8").embedder().embed(images)
    assert (found * tiny_embedder.embed(images)).sum(1).min() > 0.99


def test_an_unquantised_file_takes_floats_too(made, tiny_embedder, crops):
    runner = signature(made("tflite").path, "embed_float")
    # A quarter of a level is lost in bytes.
    image = crops[:1] * 0.9 + 0.25 / 255
    np.testing.assert_allclose(runner(image=image)["embedding"], tiny_embedder.embed(image), atol=1e-5)


def test_bytes_of_an_int8_input_are_levels(made):
    # One step is one level: zero point 0, scale 1/255, whatever was calibrated on.
    scale, zero = signature(made("tflite", "int8").path).get_input_details()["image"]["quantization"]
    assert scale == pytest.approx(1 / 255, rel=1e-5)
    assert zero == 0


def test_what_it_cannot_hold_is_named():
    inputs = keras.Input((8, 8, 3))
    x = InverseErrorFunction(name="odd_part")(keras.layers.Conv2D(2, 3, name="before")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4, name="after")(keras.layers.Flatten()(x)), name="odd")
    with pytest.raises(UserError) as caught:
        convert(model, 8, "none")
    assert str(caught.value) == (
        "TFLite cannot hold odd: it has no builtin operation for Erfinv (layer odd_part); export it as a SavedModel"
    )
