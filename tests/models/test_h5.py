import dataclasses
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from tfface.errors import UserError
from tfface.hub import weights
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


MADE = dataclasses.replace(
    PRESET,
    name="student/made",
    sources=(),
    file_name="student.weights.h5",
    sha256="0" * 64,
    input_size=140,
    embedding_size=8,
    recipe="center-140",
    metric="cosine",
    threshold=0.5,
    threshold_source="a test",
    training_data="LFW",
    licence="none",
    other_thresholds=(("euclidean", 1.1, "paper"),),
    identities_seen=frozenset({"b", "a"}),
)


def test_what_is_written_is_what_models_are_loaded_from(tmp_path, monkeypatch):
    folder = tmp_path / "student" / "made"
    network = student.build(MADE)
    _h5.save(network, folder / MADE.file_name)
    MADE.write(folder)
    monkeypatch.setattr(_embedder, "SAVED_MODELS", tmp_path)
    (found,) = _embedder.candidates("student")
    assert dataclasses.replace(found, sources=()) == MADE
    assert found.sources == (weights.BundledSource(folder / MADE.file_name),)
    again = student.build(MADE)
    student.load_weights(again, folder / MADE.file_name)
    images = np.random.default_rng(0).random((4, 140, 140, 3), np.float32)
    assert (np.asarray(network(images)) * np.asarray(again(images))).sum(1).min() > 0.9999


def test_kernels_are_halved_and_variances_are_not(tmp_path):
    """A variance may be beyond 65,504, the largest float16."""
    network = student.build(MADE)
    bn = network.get_layer("conv1_bn")
    bn.moving_variance.assign(np.full(32, 1e6))
    _h5.save(network, tmp_path / "x.weights.h5")
    kinds = set()
    with h5py.File(tmp_path / "x.weights.h5") as file:
        file.visititems(lambda _, item: kinds.add((item.ndim > 1, item.dtype.name)) if hasattr(item, "ndim") else None)
    assert kinds == {(True, "float16"), (False, "float32")}
    again = student.build(MADE)
    student.load_weights(again, tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(again.get_layer("conv1_bn").moving_variance, np.full(32, 1e6))
    assert list(tmp_path.iterdir()) == [tmp_path / "x.weights.h5"]


def test_a_compact_file_is_read_like_any_other(tmp_path):
    """Large kernels are int8 with a scale for each output channel, the rest is as ever."""
    network = student.build(MADE)
    _h5.save(network, tmp_path / "x.weights.h5", compact=True)
    _h5.save(network, tmp_path / "float.weights.h5")
    assert (tmp_path / "x.weights.h5").stat().st_size < 0.7 * (tmp_path / "float.weights.h5").stat().st_size
    with h5py.File(tmp_path / "x.weights.h5") as file:
        kinds = {name: file[f"layers/{name}/vars/0"].dtype.name for name in ("conv1", "conv2", "conv3", "conv3_bn")}
        assert file["layers/conv3/scales/0"].shape == (128,)
    assert kinds == {"conv1": "float16", "conv2": "float16", "conv3": "int8", "conv3_bn": "float32"}
    again = student.build(MADE)
    student.load_weights(again, tmp_path / "x.weights.h5")
    step = np.abs(network.get_layer("conv3").kernel).max(axis=(0, 1, 2)) / 127
    assert (np.abs(again.get_layer("conv3").kernel - network.get_layer("conv3").kernel) < 1.01 * step).all()
    np.testing.assert_array_equal(again.get_layer("conv3_bn").gamma, network.get_layer("conv3_bn").gamma)


def test_a_tiny_kernel_by_hand():
    """Channel 0: the scale is 1.27 / 127 = 0.01. Its values are 127, 0.4, 0.4 and 0.4 steps; they round to 127 and
    zeros, 1.2 steps short in sum, so one of the three is rounded up. Channel 1 is exact."""
    kernel = np.array([[1.27, 127.0], [0.004, 1.0], [0.004, 2.0], [0.004, -3.0]], np.float32)
    whole, scales = _h5.quantize(kernel)
    np.testing.assert_allclose(scales, [0.01, 1.0])
    assert sorted(whole[:, 0].tolist()) == [0, 0, 1, 127] and whole[0, 0] == 127
    assert whole[:, 1].tolist() == [127, 1, 2, -3]


def test_rounding_errors_cancel_in_each_channel():
    kernel = np.random.default_rng(0).normal(0, 0.1, (3, 3, 64, 8)).astype(np.float32)
    whole, scales = _h5.quantize(kernel)
    assert whole.dtype == np.int8 and whole.shape == kernel.shape
    errors = (whole * scales - kernel) / scales
    assert np.abs(errors).max() <= 1.001
    assert np.abs(errors.sum(axis=(0, 1, 2))).max() <= 0.51


def test_a_kernel_of_zeros():
    whole, scales = _h5.quantize(np.zeros((2, 3), np.float32))
    assert not whole.any() and np.isfinite(scales).all()


def test_scales_of_another_shape(tmp_path):
    network = student.build(MADE)
    path = tmp_path / "x.weights.h5"
    _h5.save(network, path, compact=True)
    with h5py.File(path, "r+") as file:
        del file["layers/conv3/scales/0"]
        file["layers/conv3/scales/0"] = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="scales"):
        _h5.fill(student.build(MADE), path)


def test_a_compact_student_embeds_alike(make_images, tmp_path):
    embedder = _embedder.load_embedder("student/lfw-distilled", offline=True)
    path = tmp_path / "student.weights.h5"
    _h5.save(embedder.model, path, compact=True)
    compact = _embedder.load_file(embedder.preset, path)
    assert compact.sha256 != embedder.sha256 and path.stat().st_size < 900_000
    images = make_images(32, 160)
    assert (compact.embed(images) * embedder.embed(images)).sum(axis=1).min() > 0.9995
