"""`verify` and `embed` through an artifact, in a process that has no TensorFlow."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfface.artifacts.making import Order, make
from tfface.data.folder import open_folder
from tfface.preprocessing.images import recipe

ROOT = Path(__file__).parents[2]
WITHOUT_TENSORFLOW = """
import sys
for name in ("tensorflow", "keras", "tf_keras", "mtcnn"):
    sys.modules[name] = None  # importing it fails
from tfface import cli
code = cli.main()
print("IMPORTED", sorted(name for name in ("tensorflow", "keras", "tf_keras") if sys.modules.get(name)))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def artifact(tiny_embedder, tmp_path_factory) -> Path:
    return make(Order(tiny_embedder, recipe("center-140"), "tflite", "none"), tmp_path_factory.mktemp("out")).path


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_verify_needs_no_tensorflow(artifact, tiny_faces, tiny_model, tmp_path, run_cli):
    pair = tiny_faces / "Ann Ames" / "Ann Ames 0.jpg", tiny_faces / "Zoë Žák" / "Zoë Žák 1.jpg"
    done = run("verify", *pair, "--artifact", artifact, "--out", tmp_path / "without")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "IMPORTED []"
    assert run_cli("verify", *pair, "--recipe", "center-140", "--out", tmp_path / "with").code == 0
    found, expected = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("without", "with"))
    assert found["distance"] == pytest.approx(expected["distance"], abs=1e-5)
    assert (found["recipe"], found["boxes"]) == (expected["recipe"], expected["boxes"])
    assert found["weights_sha256"] == "0" * 64
    assert found["artifact"]["name"] == "tiny-random-float32"
    assert (tmp_path / "without" / "verify.png").read_bytes().startswith(b"\x89PNG")


def test_embed_and_golden_need_no_tensorflow(artifact, tiny_faces, tiny_embedder, tmp_path):
    from tfface.evaluation.embeddings import embed_dataset

    (tiny_faces / "cid" / "broken.jpg").write_bytes(b"no image")
    done = run("embed", tiny_faces, "--artifact", artifact, "--out", tmp_path / "x.npz")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "IMPORTED []"
    dataset = open_folder(tiny_faces)
    expected = embed_dataset(dataset, tiny_embedder, recipe("center-140"))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert arrays["keys"].tolist() == [key for key, ok in zip(dataset.keys, expected.ok, strict=True) if ok]
        np.testing.assert_allclose(arrays["embeddings"], expected.vectors[expected.ok], atol=1e-3)
        assert arrays["failed_keys"].tolist() == ["cid/broken.jpg"]
        assert len(str(arrays["artifact_sha256"])) == 64
    done = run("golden", artifact)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "IMPORTED []"), done.stderr


@pytest.fixture
def pair(tiny_faces):
    return tiny_faces / "Ann Ames" / "Ann Ames 0.jpg", tiny_faces / "Ann Ames" / "Ann Ames 1.jpg"


def test_boxes_are_taken_from_a_file(artifact, pair, tmp_path, run_cli):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"image,x,y,width,height\n{pair[0].name},5,6,40,50\n{pair[1].name},1,2,30,30\n")
    result = run_cli("verify", *pair, "--artifact", artifact, "--boxes", boxes, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["boxes"] == [[5, 6, 45, 56], [1, 2, 31, 32]]
    assert metrics["recipe"] == "given-margin0.0"


def test_a_recipe_that_needs_a_detector(refused, artifact, pair):
    message = refused("verify", *pair, "--artifact", artifact, "--recipe", "mtcnn-v1-margin0.20")
    assert "recipe mtcnn-v1-margin0.20 needs faces, and without TensorFlow none are looked for" in message


def test_boxes_without_an_artifact(refused, pair, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x,y,width,height\n")
    assert "--boxes goes with --artifact" in refused("verify", *pair, "--boxes", boxes)
    folder = pair[0].parent
    assert "--boxes goes with --artifact" in refused("embed", folder, "--boxes", boxes, "--out", tmp_path / "x.npz")


def test_a_copy_that_was_changed_or_came_alone(refused, artifact, pair, tmp_path):
    copy = Path(shutil.copytree(artifact.parent, tmp_path / "copy")) / artifact.name
    data = bytearray(copy.read_bytes())
    data[100] ^= 1
    copy.write_bytes(data)
    for command in (("verify", *pair, "--artifact", copy), ("golden", copy)):
        assert "is not what was exported" in refused(*command)
    copy.with_name(copy.name + ".json").unlink()
    for command in (("verify", *pair, "--artifact", copy), ("golden", copy)):
        assert f"has no {copy.name}.json beside it" in refused(*command)


def test_a_folder_that_is_no_artifact(refused, pair, tmp_path):
    assert "is no artifact" in refused("verify", *pair, "--artifact", tmp_path)


def test_five_points_from_a_file_need_no_tensorflow(tiny_embedder, tiny_faces, tmp_path):
    preset = dataclasses.replace(tiny_embedder.preset, recipe="align5-112")
    order = Order(dataclasses.replace(tiny_embedder, preset=preset), recipe("center-140"), "tflite", "none")
    pair = tiny_faces / "Ann Ames" / "Ann Ames 0.jpg", tiny_faces / "Zoë Žák" / "Zoë Žák 1.jpg"
    (tmp_path / "points.csv").write_text(
        "image,x0,y0,x1,y1,x2,y2,x3,y3,x4,y4\n"
        + "".join(f"{path.name},24,30,40,31,32,38,26,46,38,45\n" for path in pair)
    )
    artifact = make(order, tmp_path / "made").path
    options = ["--artifact", artifact, "--points", tmp_path / "points.csv", "--out", tmp_path / "out"]
    done = run("verify", *pair, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "IMPORTED []"
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["recipe"] == "given-align5-112"


def test_faces_are_given_to_an_artifact_alone_and_in_one_way(refused, artifact, tiny_faces, tmp_path):
    pair = tiny_faces / "Ann Ames" / "Ann Ames 0.jpg", tiny_faces / "Zoë Žák" / "Zoë Žák 1.jpg"
    file = tmp_path / "faces.csv"
    file.write_text("image,x,y,width,height\n")
    assert "--points goes with --artifact" in refused("verify", *pair, "--points", file)
    assert "--boxes goes with --artifact" in refused("verify", *pair, "--boxes", file)
    options = ["--artifact", artifact, "--boxes", file, "--points", file]
    assert "--boxes and --points are two ways to give a face" in refused("verify", *pair, *options)
    options = ["--artifact", artifact, "--points", file]
    assert "must begin with the line image,x0,y0,x1,y1" in refused("verify", *pair, *options)
