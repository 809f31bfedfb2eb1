import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from tfface.errors import UserError
from tfface.hub.weights import WeightsFile
from tfface.models import _embedder, _h5, student

PRESET = _embedder.Preset(
    name="student/test",
    sources=(),
    file_name="test.h5",
    sha256=None,
    input_size=140,
    embedding_size=8,
    recipe="center-140",
    metric="cosine",
    threshold=0.4,
    threshold_source="",
    training_data="",
    licence="",
)


@pytest.fixture(scope="module")
def source(randomise) -> keras.Model:
    model = student.build(PRESET)
    randomise(model)
    return model


@pytest.fixture(scope="module")
def whole_model_file(source, tmp_path_factory) -> Path:
    """As `model.save('x.h5')` writes it: weights under `model_weights`."""
    path = tmp_path_factory.mktemp("h5") / "model.h5"
    source.save(path)
    return path


@pytest.fixture
def file(whole_model_file, tmp_path) -> Path:
    return Path(shutil.copy(whole_model_file, tmp_path / "weights.h5"))


def assert_equal_weights(model: keras.Model, source: keras.Model) -> None:
    for ours, theirs in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def load(path: Path) -> keras.Model:
    return _embedder.load(PRESET, WeightsFile(path, "")).model


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_whole_model_file(file, source):
    assert_equal_weights(load(file), source)


def test_layer_names_split_over_several_attributes(file, source):
    with h5py.File(file, "r+") as opened:
        attributes = opened["model_weights"].attrs
        names = attributes["layer_names"]
        del attributes["layer_names"]
        attributes["layer_names0"], attributes["layer_names1"] = names[:4], names[4:]
    assert_equal_weights(load(file), source)


@pytest.fixture
def keras_3_file(source, tmp_path) -> Path:
    source.save_weights(tmp_path / "x.weights.h5")
    return tmp_path / "x.weights.h5"


def test_keras_3_weights_file(keras_3_file, source):
    assert_equal_weights(load(keras_3_file), source)


def test_keras_3_weights_of_a_model_in_training(source, tmp_path):
    model = keras.models.clone_model(source)
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 140, 140, 3)), np.ones((2, 8)), verbose=0)
    model.save_weights(tmp_path / "x.weights.h5")
    assert_equal_weights(load(tmp_path / "x.weights.h5"), model)


def test_keras_3_file_without_a_layer(keras_3_file):
    with h5py.File(keras_3_file, "r+") as opened:
        del opened["layers/conv2d"]
    assert "layer conv2 is missing" in message(keras_3_file)


def test_keras_3_file_of_another_shape(keras_3_file):
    with h5py.File(keras_3_file, "r+") as opened:
        del opened["layers/dense/vars/0"]
        opened["layers/dense/vars/0"] = np.zeros((128, 9), "float32")
    assert "layer linear: kernel has shape (128, 9), not (128, 8)" in message(keras_3_file)


def test_cut_short(file, tmp_path):
    short = tmp_path / "short.h5"
    short.write_bytes(file.read_bytes()[:20_000])
    assert "cut short" in message(short)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html>\n<html>Not found</html>", "a web page"),
        (b"\n <HTML><body>", "a web page"),
        (b"PK\x03\x04 some other format", "no HDF5 file"),
    ],
)
def test_not_hdf5(content, says, tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    assert says in message(path)


def test_no_such_file(tmp_path):
    assert "No such file" in message(tmp_path / "absent.h5")


def test_hdf5_of_something_else(tmp_path):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as opened:
        opened["numbers"] = [1, 2, 3]
    assert "no Keras weights file" in message(path)


def test_keras_3_file_of_something_else(tmp_path):
    path = tmp_path / "other.weights.h5"
    with h5py.File(path, "w") as opened:
        opened["layers/conv2d/numbers"] = [1, 2, 3]
    assert "vars is listed in /layers/conv2d but is not there" in message(path)


def set_names(group: h5py.Group, attribute: str, names: list[str]) -> None:
    group.attrs[attribute] = np.array([name.encode() for name in names])


def names_of(group: h5py.Group, attribute: str) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else name for name in group.attrs[attribute]]


def drop_layer(opened: h5py.File, dropped: str) -> None:
    root = opened["model_weights"]
    set_names(root, "layer_names", [name for name in names_of(root, "layer_names") if name != dropped])


def test_missing_layer(file):
    with h5py.File(file, "r+") as opened:
        drop_layer(opened, "conv2")
        drop_layer(opened, "linear")
    assert "layer conv2 is missing" in message(file)


def test_layer_listed_but_absent(file):
    with h5py.File(file, "r+") as opened:
        del opened["model_weights/conv2"]
    assert "conv2 is listed" in message(file)


def weights_of(opened: h5py.File, layer: str) -> tuple[h5py.Group, str]:
    """The group of a layer and the path in it of its first variable."""
    group = opened["model_weights"][layer]
    return group, names_of(group, "weight_names")[0]


def test_wrong_shape(file):
    with h5py.File(file, "r+") as opened:
        group, name = weights_of(opened, "linear")
        del group[name]
        group[name] = np.zeros((128, 9), "float32")
    assert "layer linear: kernel has shape (128, 9), not (128, 8)" in message(file)


def test_a_layer_that_the_network_lacks(file):
    with h5py.File(file, "r+") as opened:
        root = opened["model_weights"]
        root.copy("linear", "classifier")
        set_names(root, "layer_names", [*names_of(root, "layer_names"), "classifier"])
    assert "layer classifier is none of this network's" in message(file)
    model = student.build(PRESET)
    _h5.fill(model, file, unused=("classifier",))


def test_variables_that_the_layer_lacks(file):
    with h5py.File(file, "r+") as opened:
        group = opened["model_weights"]["conv1"]
        group["bias"] = np.zeros(32, "float32")
        set_names(group, "weight_names", [*names_of(group, "weight_names"), "bias"])
    assert "layer conv1 has bias, kernel, not kernel" in message(file)


def test_links_out_of_the_file_are_not_followed(file, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["kernel"] = np.zeros((128, 8), "float32")
    with h5py.File(file, "r+") as opened:
        group, name = weights_of(opened, "linear")
        del group[name]
        group[name] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/kernel")
    assert "is listed in" in message(file)


def test_a_model_is_filled_wholly_or_not_at_all(file):
    with h5py.File(file, "r+") as opened:
        drop_layer(opened, "linear_bn")
    model = student.build(PRESET)
    before = model.get_weights()
    with pytest.raises(ValueError, match="linear_bn"):
        _h5.fill(model, file)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
