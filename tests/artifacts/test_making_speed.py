"""Speed as TFLite files."""

import dataclasses

import pytest

from tfface.artifacts.making import lite_speed


def test_student_and_teacher_are_timed_as_they_are_named(tiny_embedder):
    import keras

    def slow() -> keras.Model:
        """The same embedder behind convolutions that give it its input again, and take a while."""
        inputs = keras.Input(tiny_embedder.model.input_shape[1:])
        wide = keras.layers.Conv2D(64, 15, padding="same", kernel_initializer="zeros", use_bias=False)(inputs)
        narrow = keras.layers.Conv2D(3, 15, padding="same", kernel_initializer="zeros", use_bias=False)(wide)
        return keras.Model(inputs, tiny_embedder.model(keras.layers.Add()([inputs, narrow])))

    teacher = dataclasses.replace(tiny_embedder, build=slow)
    found = lite_speed(tiny_embedder, teacher)
    assert found["ms"]["teacher"] > found["ms"]["student"] > 0
    assert found["speedup"] == pytest.approx(found["ms"]["teacher"] / found["ms"]["student"])
