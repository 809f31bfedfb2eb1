import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfface.artifacts import golden
from tfface.errors import UserError
from tfface.preprocessing.decoding import decode

ROOT = Path(__file__).parents[2]


def record_of(artifact) -> dict:
    return json.loads((artifact.path.parent / "golden.json").read_text())


@pytest.mark.parametrize(("format", "quantization"), [("savedmodel", "none"), ("tflite", "none"), ("tflite", "int8")])
def test_a_copy_answers_as_exported(copied, format, quantization):
    artifact = copied(format, quantization)
    answers = golden.check(artifact, artifact.path.parent / "golden.json")
    assert len(answers) == 8
    assert all(answer.passed for answer in answers)


def test_golden_vectors_are_the_embedders_own(made, tiny_embedder):
    artifact = made("tflite")
    record = record_of(artifact)
    assert record["artifact_sha256"] == artifact.sha256
    assert (record["input_size"], record["renormalise"]) == (32, False)
    path = artifact.path.parent / "golden.json"
    np.testing.assert_allclose(golden.vectors_of(path), tiny_embedder.embed(golden.crops_of(path)), atol=1e-5)
    refused = [entry["file"] for entry in record["inputs"] if entry["embedding"] is None]
    assert refused == ["golden/broken.jpg"]


def test_server_and_reader_answer_alike(made):
    # In the graph and by OpenCV: decoded, turned upright, cropped; the reader's crop is rounded to bytes.
    served, read = record_of(made("savedmodel")), record_of(made("tflite"))
    for one, other in zip(served["inputs"], read["inputs"], strict=True):
        if one["embedding"]:
            assert np.dot(one["embedding"], other["embedding"]) > 0.9999, one["file"]


def test_vectors_of_different_inputs_differ(made):
    vectors = golden.vectors_of(made("tflite").path.parent / "golden.json")
    assert (vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)].max() < 1 - 1e-4


def change(path: Path, edit) -> Path:
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))
    return path


def test_another_answer_does_not_pass(copied):
    artifact = copied("tflite")
    path = artifact.path.parent / "golden.json"
    change(path, lambda record: record["inputs"][1].update(embedding=record["inputs"][0]["embedding"]))
    change(path, lambda record: record["inputs"][2].update(embedding=None))
    passed = {answer.file: answer.passed for answer in golden.check(artifact, path)}
    assert [file for file, good in passed.items() if not good] == ["golden/crop1.png", "golden/crop2.png"]


def test_a_changed_input_is_named(copied):
    artifact = copied("tflite")
    file = artifact.path.parent / "golden" / "crop1.png"
    file.write_bytes((artifact.path.parent / "golden" / "crop0.png").read_bytes())
    with pytest.raises(UserError, match=r"crop1.png is not the golden input"):
        golden.check(artifact, artifact.path.parent / "golden.json")


def test_another_artifacts_vectors(copied, made):
    with pytest.raises(UserError, match="made by another artifact"):
        golden.check(copied("tflite"), made("tflite", "int8").path.parent / "golden.json")


@pytest.mark.parametrize("text", [None, "[]", "{}"])
def test_no_golden_vectors(copied, text):
    artifact = copied("tflite")
    path = artifact.path.parent / "golden.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=r"is not there: copy|holds no golden vectors"):
        golden.check(artifact, path)


def test_a_lying_photograph_is_seen_upright():
    pixels = golden.drawn_photograph(1, 100, 60)
    assert np.abs(decode(golden.jpeg_of(pixels, lying=True)).astype(int) - pixels).mean() < 6
    assert golden.drawn_photograph(1, 100, 60).tolist() == pixels.tolist()


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_the_python_example_passes(made, quantization):
    command = [sys.executable, str(ROOT / "examples" / "golden_check.py"), str(made("tflite", quantization).path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["all as exported"], done.stderr
    assert done.stdout.count("cosine distance") == 4


def test_the_python_example_sees_a_changed_file(copied):
    path = copied("tflite").path
    path.write_bytes(path.read_bytes() + b"x")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "golden_check.py"), str(path)], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "is not what was exported" in done.stderr


def test_the_kotlin_example_reads_keys_that_are_there(made):
    import re

    artifact = made("tflite", "int8")
    text = (ROOT / "examples" / "GoldenCheck.kt").read_text()
    golden_record = record_of(artifact)
    known = [artifact.record, artifact.record["preset"], artifact.record["output"], golden_record]
    known.append(golden_record["inputs"][0])
    keys = set(re.findall(r'get(?:String|Int|Double|Boolean|JSONObject|JSONArray)\("(\w+)"\)', text))
    assert len(keys) >= 10
    assert {key for key in keys if not any(key in record for record in known)} == set()
    assert '"embed")' in text and "embed" in artifact.record["signatures"]
