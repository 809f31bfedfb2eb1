"""`client` against a stand-in for TensorFlow Serving that answers over real sockets."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.serving.stand_in import StandIn
from tfface.artifacts.artifact import Artifact
from tfface.artifacts.making import Order, make
from tfface.preprocessing.images import recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def artifact(tiny_embedder, tmp_path_factory) -> Artifact:
    return make(Order(tiny_embedder, recipe("center-140"), "savedmodel", "none"), tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def server(artifact) -> Iterator[StandIn]:
    stand_in = StandIn("tiny-random", {1: artifact.path}).start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def pair(tiny_faces):
    return tiny_faces / "Ann Ames" / "Ann Ames 0.jpg", tiny_faces / "Zoë Žák" / "Zoë Žák 1.jpg"


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_verify_as_without_a_server(protocol, server, artifact, pair, tiny_model, tmp_path, run_cli):
    options = ["--protocol", protocol, "--server", server.address(protocol), "--artifact", artifact.path.parent]
    result = run_cli("client", "verify", *pair, *options, "--out", tmp_path / "served")
    assert result.code == 0, result.err
    assert run_cli("verify", *pair, "--recipe", "center-140", "--out", tmp_path / "here").code == 0
    found, expected = metrics_of(tmp_path / "served"), metrics_of(tmp_path / "here")
    assert found["distance"] == pytest.approx(expected["distance"], abs=1e-5)
    for name in ("threshold", "metric", "same"):
        assert found[name] == expected[name]
    assert ("same person" if expected["same"] else "different people") in result.out
    assert (found["served_model"], found["served_version"], found["preset"]) == ("tiny-random", 1, "tiny/random")
    assert (found["weights_sha256"], found["artifact"]["sha256"]) == ("0" * 64, artifact.sha256)


def test_a_threshold_of_ones_own(server, pair, run_cli, tmp_path):
    options = ["--server", server.grpc, "--model", "tiny-random", "--version", 1, "--threshold", "1.9"]
    result = run_cli("client", "verify", *pair, *options, "--out", tmp_path)
    assert (result.code, "same person" in result.out) == (0, True), result.err
    found = metrics_of(tmp_path)
    assert (found["threshold"], found["same"], found["preset"], found["weights_sha256"]) == (1.9, True, None, None)


def test_embed_counts_what_failed(server, tiny_faces, tiny_embedder, run_cli, tmp_path):
    from tfface.preprocessing.images import crop_files

    files = sorted((tiny_faces / "Bob_Burn").iterdir())
    (tiny_faces / "broken.jpg").write_bytes(files[0].read_bytes()[:500])
    asked = [files[0], tiny_faces / "broken.jpg", *files[1:]]
    options = ["--server", server.grpc, "--model", "tiny-random", "--batch", 2, "--out", tmp_path / "out"]
    result = run_cli("client", "embed", *asked, *options)
    assert result.code == 0, result.err
    assert "broken.jpg is no JPEG or PNG file that the server can read" in result.err
    metrics = metrics_of(tmp_path / "out")
    assert (metrics["photographs"], metrics["embedded"], len(metrics["failures"])) == (4, 3, 1)
    with np.load(tmp_path / "out" / "embeddings.npz", allow_pickle=False) as arrays:
        assert arrays["keys"].tolist() == [str(path) for path in files]
        expected = tiny_embedder.embed(crop_files([path.read_bytes() for path in files], recipe("center-140"), 32)[0])
        np.testing.assert_allclose(arrays["embeddings"], expected, atol=1e-5)
        assert arrays["failed_keys"].tolist() == [str(tiny_faces / "broken.jpg")]


def test_boxes_are_taken_from_a_file(server, artifact, pair, run_cli, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"image,x,y,width,height\n{pair[0].name},5,6,40,50\n{pair[1]},1,2,30,30\n")
    options = ["--server", server.rest, "--protocol", "rest", "--artifact", artifact.path, "--boxes", boxes]
    result = run_cli("client", "verify", *pair, *options, "--out", tmp_path)
    assert result.code == 0, result.err
    assert metrics_of(tmp_path)["signature"] == "embed_jpeg_boxes"


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_no_tensorflow_is_imported(protocol, server, artifact, pair):
    code = """
import sys
for name in ("tensorflow", "keras", "tf_keras"):
    sys.modules.pop(name, None)
from tfface import cli
code = cli.main()
print("IMPORTED", sorted({"tensorflow", "keras", "tf_keras"} & set(sys.modules)), "grpc" in sys.modules)
sys.exit(code)
"""
    options = ["--protocol", protocol, "--server", server.address(protocol), "--artifact", artifact.path]
    command = [sys.executable, "-c", code, "client", "verify", *map(str, [*pair, *options])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"IMPORTED [] {protocol == 'grpc'}"


def test_a_pair_that_cannot_be_read(refused, server, pair, tmp_path):
    (tmp_path / "text.jpg").write_bytes(b"text")
    options = ["--server", server.grpc, "--model", "tiny-random", "--threshold", "0.4"]
    message = refused("client", "verify", pair[0], tmp_path / "text.jpg", *options)
    assert message.endswith("text.jpg: is no JPEG or PNG file that the server can read")
    options = options[:4]
    assert "none of the 1 photographs could be used" in run_embed(refused, tmp_path / "text.jpg", options)


def run_embed(refused, path: Path, options: list) -> str:
    # Besides the error, a note names the photograph.
    with pytest.raises(AssertionError) as caught:
        refused("client", "embed", path, *options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["verify", "PAIR", "--model", "tiny-random"], "does not tell its threshold: give --artifact or --thresh"),
        (["verify", "ONE", "--model", "tiny-random", "--threshold", "1"], "client verify takes two photographs, not 1"),
        (["embed", "ONE", "--model", "tiny-random", "--threshold", "1"], "--threshold goes with client verify"),
        (["embed", "ONE"], "--model names the served model, as in the server's models.config"),
        (["embed", "--model", "tiny-random"], "Missing argument 'FILES...'"),
        (["embed", "ONE", "--model", "x", "--protocol", "soap"], "Invalid value for '--protocol'"),
        (["embed", "ONE", "--model", "x", "--server", "there"], "'there' is no server: give HOST:PORT"),
        (["embed", "ONE", "--model", "x", "--deadline", "0"], "Invalid value for '--deadline'"),
        (["embed", "ONE", "--model", "other"], "serves no model 'other'"),
        (["embed", "ONE", "--model", "tiny-random", "--version", "3"], "versions: 1 (AVAILABLE)"),
        (["embed", "ONE", "--artifact", "FACES"], "is no artifact"),
        (["embed", "ONE", "--artifact", "ARTIFACT", "--model", "other"], "serves no model 'other'"),
    ],
)
def test_bad_options(refused, server, artifact, pair, tiny_faces, options, reason):
    stand_for = {"PAIR": pair, "ONE": pair[:1], "FACES": [tiny_faces], "ARTIFACT": [artifact.path]}
    given = [value for option in options for value in stand_for.get(option, [option])]
    asked = [] if "--server" in options else ["--server", server.grpc]
    assert reason in refused("client", *given, *asked)


def test_down(refused, pair):
    message = refused("client", "embed", pair[0], "--model", "x", "--server", "127.0.0.1:9", "--retries", 1)
    assert "UNAVAILABLE, tried 2 times]: is it up, and is this its port for grpc?" in message


def test_slow(refused, server, pair, monkeypatch):
    monkeypatch.setattr(server, "delay", 1.0)
    options = ["--server", server.grpc, "--model", "tiny-random", "--deadline", "0.5", "--retries", 0]
    message = refused("client", "embed", pair[0], *options)
    assert "[DEADLINE_EXCEEDED]: give it longer (--deadline) or less at once (--batch)" in message
