"""What every architecture keeps; a new file in `tfface/models` is tested at once."""

import dataclasses
import inspect
import re

import keras
import numpy as np
import pytest

from tfface.models import _embedder
from tfface.utils import registry

# Small where the architecture allows it; a model that is not listed is tested at its own size.
SIZES = {"facenet": 75, "mobilefacenet": 48, "resnet50": 48, "deepface": 72, "student": 140}
ARCHITECTURES = registry.names("models")
PRESETS = [preset for name in ARCHITECTURES for preset in registry.load("models", name).PRESETS]


def preset_of(architecture: str) -> _embedder.Preset:
    any_preset = _embedder.Preset(
        name=f"{architecture}/test",
        sources=(),
        file_name="test.weights.h5",
        sha256=None,
        input_size=160,
        embedding_size=128,
        recipe="center-140",
        metric="cosine",
        threshold=0.4,
        threshold_source="",
        training_data="",
        licence="",
    )
    found = next(iter(registry.load("models", architecture).PRESETS), any_preset)
    return dataclasses.replace(found, input_size=SIZES.get(architecture, found.input_size))


@pytest.fixture(scope="module", params=ARCHITECTURES)
def preset(request) -> _embedder.Preset:
    return preset_of(request.param)


@pytest.fixture(scope="module")
def model(preset, randomise) -> keras.Model:
    model = registry.load("models", preset.architecture).build(preset)
    randomise(model)
    return model


def test_unit_vectors_of_the_presets_size(preset, model, make_images):
    images = make_images(3, preset.input_size)
    vectors = np.asarray(model(images, training=False))
    assert vectors.shape == (3, preset.embedding_size)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


def test_deterministic_and_independent_of_the_batch(preset, model, make_images):
    images = make_images(3, preset.input_size)
    vectors = np.asarray(model(images, training=False))
    np.testing.assert_array_equal(model(images, training=False), vectors)
    np.testing.assert_allclose(model(images[1:2], training=False), vectors[1:2], atol=1e-5)


def test_colours_are_told_apart(preset, model, make_images):
    images = make_images(1, preset.input_size)
    swapped = np.ascontiguousarray(images[..., ::-1])
    assert np.abs(np.asarray(model(images)) - np.asarray(model(swapped))).max() > 1e-4


def test_saves_and_loads_in_safe_mode(preset, model, make_images, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    images = make_images(2, preset.input_size)
    np.testing.assert_array_equal(again(images, training=False), model(images, training=False))


def test_no_lambda_and_own_layers_are_registered(model):
    for layer in model.layers:
        assert not isinstance(layer, keras.layers.Lambda)
        if not type(layer).__module__.startswith("keras."):
            assert keras.saving.get_registered_name(type(layer)) == f"tfface>{type(layer).__name__}"


def test_loads_weights_that_training_here_writes(preset, model, make_images, tmp_path):
    model.save_weights(tmp_path / "x.weights.h5")
    module = registry.load("models", preset.architecture)
    fresh = module.build(preset)
    module.load_weights(fresh, tmp_path / "x.weights.h5")
    images = make_images(2, preset.input_size)
    np.testing.assert_array_equal(fresh(images, training=False), model(images, training=False))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_can_be_built_without_a_preset(architecture):
    module = registry.load("models", architecture)
    constructors = [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and name not in ("build", "load_weights")
        and function.__annotations__.get("return") is keras.Model
    ]
    assert len(constructors) == 1
    for parameter in inspect.signature(constructors[0]).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_records_are_complete(preset):
    assert preset.name.startswith(f"{preset.architecture}/")
    assert preset.sources
    assert preset.sha256 is None or re.fullmatch("[0-9a-f]{64}", preset.sha256)
    assert preset.metric in ("cosine", "euclidean")
    assert "LFW" in preset.training_data
    assert preset.threshold_source and preset.licence
    for source in preset.sources:
        if hasattr(source, "url"):
            assert source.url.startswith("https://")


def test_names_are_tried_in_order():
    assert [preset.name for preset in _embedder.candidates("facenet")] == ["facenet/vggface2", "facenet/msceleb"]
    assert [preset.name for preset in _embedder.candidates("facenet/casia")] == ["facenet/casia"]
