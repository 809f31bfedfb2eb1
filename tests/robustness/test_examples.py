"""Examples for a picture: what was kept of a run, and what the model says of it."""

import numpy as np
import pytest

from tfface.attacks.fgsm import FGSM
from tfface.metrics.distances import cosine_distance
from tfface.preprocessing.images import recipe
from tfface.robustness.classification import HeadConfig
from tfface.robustness.experiment import ExperimentConfig, prepare
from tfface.robustness.results import examples, pair_distances
from tfface.robustness.run import EXAMPLES, run_trial
from tfface.robustness.trial import Context
from tfface.training.head import HeadSettings


@pytest.mark.parametrize("goal", ["dodging", "impersonation"])
def test_examples_of_pairs(trial, tiny_embedder, goal):
    made = trial(goal, count=9)
    rows = run_trial(made)
    found = examples(made, rows)
    assert len(found) == min(EXAMPLES, rows.attacked.sum())
    flags = [(example.after[-1].matches == (goal == "impersonation")) for example in found]
    assert flags == sorted(flags, reverse=True), "those that succeed come first"
    for example in found:
        assert example.before.matches == (goal == "dodging")
        assert example.limit == pytest.approx(0.1)
        images = np.stack([example.clean, *(example.clean + example.noise)])
        distances = cosine_distance(tiny_embedder.embed(images), tiny_embedder.embed(example.reference[None]))
        said = [answer.distance for answer in (example.before, *example.after)]
        # The noise is kept in half precision.
        assert said == pytest.approx(distances.tolist(), abs=2e-3)
        assert np.abs(example.noise[0]).max() == pytest.approx(0.02, abs=1e-4)
        assert (example.person == example.compared) == (goal == "dodging")


def test_examples_of_a_search_and_of_nothing(trial):
    made = trial("impersonation", count=5, limit=0.05, epsilons=())
    rows = run_trial(made)
    first = examples(made, rows)[0]
    assert first.epsilons[0] in rows.epsilon
    assert first.after[0].distance <= 0.05 < first.before.distance
    assert first.before.distance in pair_distances(made, rows.clean)
    wrong = trial("dodging", count=2, limit=0.0)
    assert examples(wrong, run_trial(wrong)) == []


def test_examples_of_a_head(faces, tiny_embedder):
    plan = ExperimentConfig(
        [("fgsm", FGSM())], ["classify"], (0.02, 0.3), head=HeadConfig(None, 8, HeadSettings(steps=100)), threshold=0.05
    )
    experiment = prepare(plan, Context(faces, tiny_embedder, recipe("whole")))
    ((made, rows, _),) = experiment.run()
    found = examples(made, rows, experiment.similarity)
    assert found
    for example in found:
        assert example.before.taken_for == example.person == example.compared
        vector = tiny_embedder.embed(np.stack([example.clean, example.reference]))
        assert example.before.distance == pytest.approx(float(1 - vector[0] @ vector[1]), abs=1e-5)
        assert example.before.matches == (example.before.distance <= 0.05)
    fooled = {example.person for example in found if example.after[-1].taken_for != example.person}
    assert bool(fooled) == bool(rows.success[rows.attacked, -1].any())
