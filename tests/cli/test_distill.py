import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tfface.models import _embedder
from tfface.training.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("tiny_model")
FAST = (
    "--recipe",
    "whole",
    "--input-size",
    "140",
    "--epochs",
    "3",
    "--batch-size",
    "8",
    "--views",
    "2",
    "--growth",
    "ahead",
    "--warmup",
    "0",
)


@pytest.fixture(scope="module")
def people(tmp_path_factory, make_photo):
    """Ten people of four photographs: two are held out, two validate, six are trained on."""
    root = tmp_path_factory.mktemp("people")
    for person in range(10):
        for number in range(4):
            path = root / f"p{person}" / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(cv2.imencode(".jpg", make_photo(person, number))[1].tobytes())
    return root


@pytest.fixture
def distill(run_cli, people):
    return lambda *options: run_cli("distill", "--teacher", "tiny", "--dataset", people, *FAST, *options)


def without_times(path):
    metrics = json.loads(path.read_text())
    return {key: value for key, value in metrics.items() if key not in ("started", "seconds")}


def test_a_released_preset(distill, people, tmp_path, monkeypatch):
    saved = tmp_path / "saved"
    result = distill("--release", "--name", "made", "--saved-models", saved, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    for text in ("Student and teacher", "32 of 1,680", "student/made", "24 images of 6 people"):
        assert text in result.out
    folder = saved / "student" / "made"
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "curves.png",
        "metrics.json",
        "preset.json",
        "student.weights.h5",
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"curves.png", "metrics.json"}

    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["command"] == "distill"
    assert (metrics["teacher"], metrics["student"], metrics["preset"]) == ("tiny/random", "student", "student/made")
    assert (metrics["train_images"], metrics["train_identities"]) == (24, 6)
    assert metrics["heldout"]["images"] == 8 and metrics["heldout"]["identities"] == 2
    assert metrics["misses"]["all"]["people"] == 10 and metrics["misses"]["heldout"]["people"] == 2
    speed = metrics["images_per_second"]
    assert metrics["speedup"] == pytest.approx(speed["student"] / speed["teacher"])
    assert len(metrics["history"]) == metrics["epochs"] == 3

    monkeypatch.setattr(_embedder, "SAVED_MODELS", saved)
    (preset,) = _embedder.candidates("student")
    assert preset.sha256 == metrics["weights_sha256"]
    assert preset.threshold == metrics["validation"]["threshold"]
    assert len(preset.identities_seen) == 8  # those who validated are seen too
    heldout = {path.name for path in people.iterdir()} - preset.identities_seen
    assert len(heldout) == 2
    embedder = _embedder.load(*_embedder.locate("student", offline=True))
    assert embedder.embed(np.zeros((1, 140, 140, 3), np.float32)).shape == (1, 16)

    card = (folder / "README.md").read_text()
    assert "--teacher tiny --student student" in card and "--epochs 3" in card and "--release" in card
    assert "FaceNet's training sets were not cleaned" in card


def test_a_killed_run_goes_on_and_ends_the_same(distill, tmp_path, monkeypatch):
    assert distill("--work", tmp_path / "whole", "--out", tmp_path / "a").code == 0
    save = Checkpoints.save

    def save_and_die(self, *arguments, **options):
        save(self, *arguments, **options)
        if self.epochs == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", save_and_die)
    result = distill("--work", tmp_path / "killed")
    assert (result.code, result.err.splitlines()[-1]) == (130, "stopped: the same command goes on from here")
    monkeypatch.setattr(Checkpoints, "save", save)
    result = distill("--work", tmp_path / "killed", "--out", tmp_path / "b")
    assert result.code == 0
    assert "epoch 2 of 3" not in result.err and "epoch 3 of 3" in result.err
    assert without_times(tmp_path / "a" / "metrics.json") == without_times(tmp_path / "b" / "metrics.json")


@pytest.mark.slow
def test_a_student_hardened_against_attacks(distill, tiny_model, tmp_path, monkeypatch):
    def load(name, offline=False):
        return tiny_model if name == "tiny" else _embedder.load(*_embedder.locate(name, offline=offline))

    monkeypatch.setattr(_embedder, "load_embedder", load)
    monkeypatch.setattr(_embedder, "SAVED_MODELS", tmp_path / "saved")
    monkeypatch.setattr("tfface.robustness.heldout.COUNT", 4)
    options = ("--release", "--saved-models", tmp_path / "saved")
    assert distill("--name", "plain", *options).code == 0
    hard = ("--adversarial", "trades", "--epsilon", "0.02", "--attack-steps", "1", "--climb", "1")
    result = distill("--name", "hard", *options, *hard, "--start-from", "student/plain")
    assert result.code == 0, result.err
    assert "when attacked or noisy" in result.err
    folder = tmp_path / "saved" / "student" / "hard"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["settings"]["hardening"]["method"] == "trades"
    assert metrics["start"] == "student/plain" and len(metrics["start_sha256"]) == 64
    first, last = metrics["made_by"]
    assert "--name plain" in first and "--name hard" in last
    own, other = metrics["withstands"]
    assert (own["preset"], other["preset"]) == ("student/hard", "student/plain")
    assert own["weights_sha256"] == metrics["weights_sha256"]
    assert [goal["goal"] for goal in own["goals"]] == ["dodging", "impersonation"]
    assert own["goals"][0]["attack_settings"]["steps"] == 20
    card = (folder / "README.md").read_text()
    for text in (
        "## Hardened",
        "TRADES",
        "1 steps of",
        "| student/hard |",
        "| student/plain |",
        f"{first}\n{last}",
        "--start-from student/plain",
    ):
        assert text in card


@pytest.mark.slow
def test_a_student_trained_under_noise(distill, tmp_path, monkeypatch):
    monkeypatch.setattr("tfface.robustness.heldout.CERTIFIED", 4)
    result = distill("--release", "--name", "noisy", "--saved-models", tmp_path, "--noise", "0.05")
    assert result.code == 0, result.err
    folder = tmp_path / "student" / "noisy"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["settings"]["hardening"] == {"method": "noise", "sigma": 0.05}
    assert metrics["certified"]["smoothing"]["sigma"] == 0.05 and metrics["certified"]["count"] == 4
    card = (folder / "README.md").read_text()
    assert "Gaussian noise" in card and 'tfface.certify("student/noisy"' in card


def test_without_release_nobody_held_out_is_read(distill, people, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tfface.training.comparison.embed_dataset", lambda *_: pytest.fail("it read the held-out people")
    )
    result = distill("--out", tmp_path)
    assert result.code == 0
    assert "--release measures the held-out people" in result.out
    assert "heldout" not in json.loads((tmp_path / "metrics.json").read_text())


def test_views_alone(distill, cache, monkeypatch):
    # Other tests of this process need not wait.
    monkeypatch.setattr("os.nice", lambda more: more)
    assert distill("--grow-only").code == 0
    (folder,) = (cache / "views").iterdir()
    assert {path.name for path in folder.glob("*-*.npy")} == {
        f"{kind}-00{number}.npy" for kind in ("views", "answers") for number in range(2)
    }
    assert not list((cache / "training").glob("*/state.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--student", "resnet50", "--no-projection"], "student resnet50 gives 2048 values where its teacher"),
        (["--held-out", "0"], "nobody of the 10 people"),
        (["--student", "nosuch"], "unknown student 'nosuch'"),
        (["--bank-gb", "1e-6"], "--bank-gb 1e-06 does not hold one view"),
        (["--input-size", "20"], "student cannot be built for 20 pixels"),
        (["--growth", "none"], "is missing: run the same command without"),
        (["--epsilon", "0.1"], "--epsilon is of adversarial training: give --adversarial too"),
        (["--adversarial", "pgd-at", "--trades-weight", "2"], "--trades-weight is of --adversarial trades"),
        (["--adversarial", "pgd-at", "--epsilon", "0"], "--epsilon 0: adversarial training needs a budget above 0"),
        (["--adversarial", "pgd-at", "--hint-weight", "1"], "learns from embeddings alone: leave out --hint-weight"),
        (["--adversarial", "pgd-at", "--noise", "0.1"], "each harden the student: give one of them"),
        (["--adversarial", "pgd-at", "--small-epochs", "1", "--small-input", "70"], "leave out --small-epochs"),
        (["--start-from", "student"], "it does not say whom it was trained on"),
    ],
)
def test_bad_input_is_one_line(refused, people, options, message):
    assert message in refused("distill", "--teacher", "tiny", "--dataset", people, *FAST, *options)


def test_a_folder_of_another_runs_checkpoints(distill, refused, people, tmp_path):
    assert distill("--work", tmp_path / "work").code == 0
    kept = (tmp_path / "work" / "state.json").read_text()
    told = refused(
        "distill", "--teacher", "tiny", "--dataset", people, *FAST, "--epochs", "5", "--work", tmp_path / "work"
    )
    assert "holds a checkpoint of another run (epochs 3, not 5)" in told
    assert (tmp_path / "work" / "state.json").read_text() == kept


def test_a_full_disk_loses_nothing(distill, refused, people, tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(path, data):
        if json.loads((tmp_path / "work" / "state.json").read_text())["history"]:
            raise OSError(28, "No space left on device")
        return write(path, data)

    first = tmp_path / "work" / "state.json"
    first.parent.mkdir()
    monkeypatch.setattr(
        Path, "write_bytes", lambda path, data: full(path, data) if first.exists() else write(path, data)
    )
    told = refused_after_notes(distill("--work", tmp_path / "work"))
    assert told.startswith("error: no space left to write")
    assert len(json.loads((tmp_path / "work" / "state.json").read_text())["history"]) == 1
    monkeypatch.setattr(Path, "write_bytes", write)
    assert distill("--work", tmp_path / "work").code == 0


def refused_after_notes(result):
    """The error's line; what was noted before it is no error."""
    assert result.code == 2
    lines = result.err.splitlines()
    assert all(line.startswith("tfface: ") for line in lines[:-1])
    return lines[-1]
