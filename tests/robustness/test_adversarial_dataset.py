"""The adversarial data set: PNG files that are what the manifest says of them."""

import dataclasses

import numpy as np
import pytest

from tfface import data
from tfface.attacks.fgsm import FGSM
from tfface.data import manifest
from tfface.errors import UserError
from tfface.evaluation.embeddings import embed_dataset
from tfface.metrics.distances import cosine_distance
from tfface.preprocessing.images import recipe
from tfface.robustness import adversarial_dataset
from tfface.robustness.classification import HeadConfig
from tfface.robustness.experiment import ExperimentConfig, prepare
from tfface.robustness.trial import Context, ImageFormat
from tfface.training.head import HeadSettings

WHOLE = recipe("whole")


def run(faces, embedder, folder, *, goals=("dodging", "impersonation"), **changes):
    plan = ExperimentConfig(
        [("fgsm", FGSM())],
        goals,
        **{
            "epsilons": (0.02, 0.2),
            "threshold": 0.1,
            "count": 5,
            "stored": ImageFormat("8-bit"),
            "pictures": True,
            "head": HeadConfig(None, 8, HeadSettings(steps=60)),
            **changes,
        },
    )
    experiment = prepare(plan, Context(faces, embedder, WHOLE))
    with adversarial_dataset.claimed(folder, experiment.trials) as done:
        made = [adversarial_dataset.TrialRun(trial, rows) for trial, rows, _ in experiment.run()]
        return made, done or adversarial_dataset.write(folder, made)


def test_read_back_it_is_what_was_counted(faces, tiny_embedder, tmp_path):
    made, count = run(faces, tiny_embedder, tmp_path / "adversarial")
    found = manifest.read(tmp_path / "adversarial")
    assert count == len(found.records) == sum(int(one.rows.attacked.sum()) * 2 for one in made) > 0
    again = data.load_dataset(str(tmp_path / "adversarial"))
    assert again.own_recipe == "whole"
    vectors = embed_dataset(again, tiny_embedder, WHOLE).vectors
    clean = embed_dataset(faces, tiny_embedder, WHOLE).vectors
    for record in found.records:
        vector = vectors[again.position(record["file"])]
        reference = clean[faces.position(record["reference"])]
        distances = cosine_distance(np.stack([clean[faces.position(record["source"])], vector]), reference[None])
        assert record["distance_before"] == pytest.approx(distances[0], abs=1e-3), "there of the 8-bit crop"
        assert record["distance_after"] == pytest.approx(distances[1], abs=1e-5)
        assert record["success"] == ((record["distance_after"] > 0.1) == (record["goal"] == "dodging"))
        assert record["person"] == faces.identities[faces.position(record["source"])]
        assert record["file"].startswith(f"{record['person']}/")
        assert (record["threshold"], record["weights_sha256"]) == (0.1, tiny_embedder.sha256)


def test_a_head_names_whom_it_sees(faces, tiny_embedder, tmp_path):
    (one,), _ = run(faces, tiny_embedder, tmp_path / "made", goals=("classify",), count=6)
    records = manifest.read(tmp_path / "made").records
    head = one.trial.context.head
    again = data.load_dataset(str(tmp_path / "made"))
    vectors = embed_dataset(again, tiny_embedder, WHOLE).vectors
    for record in records:
        seen = head.people[int(head.logits(vectors[[again.position(record["file"])]])[0].argmax())]
        assert record["taken_for"] == seen
        assert record["success"] == (seen != record["person"])
        assert record["margin_before"] <= 0


def test_a_search_saves_what_it_found(faces, tiny_embedder, tmp_path):
    (one,), count = run(faces, tiny_embedder, tmp_path / "made", goals=("dodging",), epsilons=())
    assert count == int(one.rows.success.sum()) <= int(one.rows.attacked.sum())
    for record in manifest.read(tmp_path / "made").records:
        assert record["success"] and 0 < record["epsilon"] <= 1


def test_the_same_run_again_writes_nothing(faces, tiny_embedder, tmp_path, monkeypatch):
    _, count = run(faces, tiny_embedder, tmp_path / "made")
    monkeypatch.setattr(adversarial_dataset, "write", lambda *_: pytest.fail("written again"))
    assert run(faces, tiny_embedder, tmp_path / "made")[1] == count


def test_the_folder_of_another_run_is_refused(faces, tiny_embedder, tmp_path):
    run(faces, tiny_embedder, tmp_path / "made")
    with pytest.raises(UserError, match="holds another run"):
        run(faces, tiny_embedder, tmp_path / "made", epsilons=(0.03,))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "holiday.png").write_bytes(b"")
    with pytest.raises(UserError, match="is not empty"):
        run(faces, tiny_embedder, tmp_path / "full")


def test_two_models_have_names_of_their_own(faces, tiny_embedder, tmp_path):
    other = dataclasses.replace(
        tiny_embedder, preset=dataclasses.replace(tiny_embedder.preset, name="tiny/other"), sha256="1" * 64
    )
    experiments = [
        prepare(
            ExperimentConfig([("fgsm", FGSM())], ["dodging"], (0.2,), threshold=0.1, count=3, pictures=True),
            Context(faces, embedder, WHOLE),
        )
        for embedder in (tiny_embedder, other)
    ]
    trials = [trial for experiment in experiments for trial in experiment.trials]
    with adversarial_dataset.claimed(tmp_path / "made", trials):
        made = [
            adversarial_dataset.TrialRun(trial, rows)
            for experiment in experiments
            for trial, rows, _ in experiment.run()
        ]
        assert adversarial_dataset.write(tmp_path / "made", made) == 6
    assert {record["preset"] for record in manifest.read(tmp_path / "made").records} == {"tiny/random", "tiny/other"}
