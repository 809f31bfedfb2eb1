import dataclasses
import json

import numpy as np
import pytest

from tfface.artifacts.artifact import Artifact, open_artifact, record_of, sidecar_of
from tfface.errors import UserError
from tfface.metrics.distances import FarThreshold
from tfface.utils.files import digest_of_tree as digest


def test_the_record_says_what_it_is(made, tiny_embedder):
    artifact = open_artifact(made("tflite", "int8").path)
    assert (artifact.format, artifact.quantization, artifact.recipe) == ("tflite", "int8", "center-140")
    assert artifact.name == "tiny-random-int8"
    assert artifact.renormalise
    assert artifact.bytes == artifact.path.stat().st_size
    for field in ("name", "input_size", "embedding_size", "metric", "threshold", "licence"):
        assert getattr(artifact.preset, field) == getattr(tiny_embedder.preset, field)
    assert artifact.record["calibration"]["photographs"] == 6
    assert artifact.record["signatures"]["embed"]["image"]["dtype"] == "uint8"


def test_a_float_artifact_gives_unit_vectors_by_itself(made):
    assert not made("tflite").renormalise


@pytest.mark.parametrize("name", ["tiny-random/1", "tiny-random"])
def test_a_saved_model_is_its_version_or_the_folder_around_it(made, name):
    root = made("savedmodel").path.parents[1]
    assert open_artifact(root / name).path == root / "tiny-random" / "1"


def test_the_highest_version_is_taken(copied):
    import shutil

    path = copied("savedmodel").path
    for number in ("2", "10", "backup"):
        shutil.copytree(path, path.with_name(number))
    path.with_name("10.json").write_text((path.with_name("1.json")).read_text())
    assert open_artifact(path.parent).path.name == "10"


@pytest.mark.parametrize(
    ("format", "inside"), [("tflite", ""), ("savedmodel", "variables/variables.data-00000-of-00001")]
)
def test_one_changed_byte(copied, format, inside):
    path = copied(format).path
    file = path / inside if inside else path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"is not what was exported: its sha256 is not that of"):
        open_artifact(path)


def test_a_file_too_many_in_a_saved_model(copied):
    path = copied("savedmodel").path
    (path / "assets" / "more.txt").write_text("")
    with pytest.raises(UserError, match="is not what was exported"):
        open_artifact(path)


def test_no_record_beside_it(copied):
    path = copied("tflite").path
    sidecar_of(path).unlink()
    with pytest.raises(UserError, match=rf"{path.name} has no {path.name}.json beside it"):
        open_artifact(path)


@pytest.mark.parametrize("text", ["[]", '{"format": 99}', "no json"])
def test_a_record_of_something_else(copied, text):
    path = copied("tflite").path
    sidecar_of(path).write_text(text)
    with pytest.raises(UserError, match=r"is no record of an artifact|cannot read"):
        open_artifact(path)


def test_what_is_no_artifact(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "x.bin", tmp_path / "nothing.tflite"):
        with pytest.raises(UserError, match="is no artifact"):
            open_artifact(path)


def test_a_tflite_file_that_is_none_cannot_be_run(copied):
    path = copied("tflite").path
    path.write_bytes(b"no flat buffer")
    record = json.loads(sidecar_of(path).read_text())
    sidecar_of(path).write_text(json.dumps({**record, "sha256": digest(path)}))
    with pytest.raises(UserError, match="cannot be run"):
        open_artifact(path).embedder().embed(np.zeros((1, 32, 32, 3), np.float32))


def test_it_has_no_keras_model(made):
    with pytest.raises(UserError, match="no Keras model"):
        _ = made("tflite").embedder().model


def test_nothing_to_embed(made):
    assert made("tflite").embedder().embed(np.zeros((0, 32, 32, 3), np.float32)).shape == (0, 16)


def test_calibrated_thresholds_travel_with_an_artifact(tiny_embedder, tmp_path):
    row = FarThreshold(0.01, 0.15, 0.1, 0.2, 40, "FAR 0.01 on a test", "whole")
    preset = dataclasses.replace(tiny_embedder.preset, thresholds=(row,))
    record = json.loads(json.dumps({"weights_sha256": "0" * 64, "preset": record_of(preset)}))
    found = Artifact(tmp_path / "a.tflite", record).preset
    assert found.thresholds == (row,) and found.decide(far=0.01)[1] == 0.15
    del record["preset"]["thresholds"]  # exported by an older version
    assert Artifact(tmp_path / "a.tflite", record).preset.thresholds == ()
    record["preset"]["thresholds"] = [{"far": 2}]
    with pytest.raises(UserError, match=r"a.tflite.json holds damaged thresholds"):
        Artifact(tmp_path / "a.tflite", record).preset  # noqa: B018
