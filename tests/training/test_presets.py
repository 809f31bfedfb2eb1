import dataclasses

import h5py
import numpy as np

from tfface.hub import weights
from tfface.models import _embedder, student
from tfface.training.presets import preset_record, write_weights
from tfface.utils.files import write_json

PRESET = _embedder.Preset(
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
    network = student.build(PRESET)
    write_weights(network, folder / PRESET.file_name)
    write_json(folder / "preset.json", preset_record(PRESET))
    monkeypatch.setattr(_embedder, "SAVED_MODELS", tmp_path)
    (found,) = _embedder.candidates("student")
    assert dataclasses.replace(found, sources=()) == PRESET
    assert found.sources == (weights.BundledSource(folder / PRESET.file_name),)
    again = student.build(PRESET)
    student.load_weights(again, folder / PRESET.file_name)
    images = np.random.default_rng(0).random((4, 140, 140, 3), np.float32)
    assert (np.asarray(network(images)) * np.asarray(again(images))).sum(1).min() > 0.9999


def test_kernels_are_halved_and_variances_are_not(tmp_path):
    """A variance may be beyond 65,504, the largest float16."""
    network = student.build(PRESET)
    bn = network.get_layer("conv1_bn")
    bn.moving_variance.assign(np.full(32, 1e6))
    write_weights(network, tmp_path / "x.weights.h5")
    kinds = set()
    with h5py.File(tmp_path / "x.weights.h5") as file:
        file.visititems(lambda _, item: kinds.add((item.ndim > 1, item.dtype.name)) if hasattr(item, "ndim") else None)
    assert kinds == {(True, "float16"), (False, "float32")}
    again = student.build(PRESET)
    student.load_weights(again, tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(again.get_layer("conv1_bn").moving_variance, np.full(32, 1e6))
    assert list(tmp_path.iterdir()) == [tmp_path / "x.weights.h5"]
