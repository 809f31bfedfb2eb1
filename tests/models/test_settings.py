"""Keras as the user has set it up, and models that are first used inside a function of the user's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfface.errors import UserError
from tfface.models._embedder import Embedder, load_embedder
from tfface.training.students import student_of
from tfface.utils import registry

IMAGES = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def filled(tiny_embedder, tmp_path) -> tuple[Embedder, np.ndarray]:
    """An embedder whose weights come from a file, none of it built yet; and what its network answers."""
    network = tiny_embedder.build()
    network.save_weights(tmp_path / "x.weights.h5")

    def build() -> keras.Model:
        keras.utils.set_random_seed(7)
        built = keras.models.clone_model(network)
        built.load_weights(tmp_path / "x.weights.h5")
        return built

    return Embedder(tiny_embedder.preset, "1" * 64, build), network(IMAGES).numpy()


def test_first_used_inside_a_function(filled):
    embedder, expected = filled
    found = tf.function(lambda images: embedder.model(images))(IMAGES)
    assert np.abs(found.numpy() - expected).max() < 1e-6
    assert np.abs(embedder.model(IMAGES).numpy() - expected).max() < 1e-6
    assert np.abs(embedder.embed(IMAGES) - expected).max() < 1e-6


def test_a_file_first_used_inside_a_function(tiny_embedder, tmp_path):
    network = tiny_embedder.build()
    network.save(tmp_path / "own.keras")
    embedder = load_embedder(tmp_path / "own.keras", scale="0..1")
    found = tf.function(lambda images: embedder.model(images))(IMAGES)
    assert np.abs(found.numpy() - network(IMAGES).numpy()).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "value", "usual", "change"),
    [
        ("floatx", "float16", "float32", keras.config.set_floatx),
        ("floatx", "float64", "float32", keras.config.set_floatx),
        ("image_data_format", "channels_first", "channels_last", keras.config.set_image_data_format),
        ("dtype_policy", "mixed_float16", "float32", keras.config.set_dtype_policy),
    ],
)
def test_a_setting_that_changes_networks_is_refused(filled, name, value, usual, change):
    embedder, expected = filled
    change(value)
    try:
        with pytest.raises(UserError, match=rf"^Keras is set to {name} {value}, where networks here need {usual}: "):
            embedder.model  # noqa: B018 - built by being asked for
    finally:
        change(usual)
    assert np.abs(embedder.embed(IMAGES) - expected).max() < 1e-6


def test_no_student_is_built_by_such_settings():
    teacher = next(iter(registry.load("models", "facenet").PRESETS))
    student = student_of("student", teacher, name="any", recipe="center-140")
    keras.config.set_floatx("float16")
    try:
        with pytest.raises(UserError, match=r"^Keras is set to floatx float16, where networks here need float32: "):
            student.network(0)
    finally:
        keras.config.set_floatx("float32")


def test_another_backend_is_refused(filled, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(UserError, match=r"^Keras runs on torch, where embedding needs TensorFlow: unset KERAS_BACKEND"):
        filled[0].embed(IMAGES)


@pytest.mark.parametrize("settings", [{"floatx": "float16"}, {"image_data_format": "channels_first"}])
def test_a_user_s_keras_json(settings, tiny_faces, tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "tensorflow", "epsilon": 1e-7, **settings}))
    photographs = [str(path) for path in sorted(tiny_faces.rglob("*.jpg"))[:2]]
    command = [sys.executable, "cli.py", "verify", *photographs, "--model", "student", "--recipe", "center-140"]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "KERAS_HOME": str(tmp_path)}
    done = subprocess.run([*command, "--offline"], cwd=root, env=environment, capture_output=True, text=True)
    ((name, value),) = settings.items()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: Keras is set to {name} {value}, where networks here need ")
    assert done.stderr.count("\n") == 1
