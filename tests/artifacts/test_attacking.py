import numpy as np
import pytest

from tfface.artifacts.attacking import ArtifactAttacks, attack_artifact, attack_keras, entries, threshold_of
from tfface.attacks._attack import run
from tfface.attacks._criteria import Dodging, Impersonation
from tfface.attacks._victim import Victim, as_victim
from tfface.attacks.pgd import PGD
from tfface.attacks.square import Square
from tfface.data import FaceDataset
from tfface.data.folder import open_folder
from tfface.errors import UserError
from tfface.preprocessing.images import recipe
from tfface.robustness import run as running
from tfface.robustness.pairs import Threshold

CONFIG = ArtifactAttacks(("fgsm", "square"), pairs=6, epsilon=0.05, queries=10)


def limit(value: float) -> Threshold:
    return Threshold(value, "cosine", "the test's")


def rates(found, *, keras: bool = False) -> dict[tuple[str, str], tuple[int, int, float | None]]:
    """(attacked, already wrong, error rate) by attack and goal."""
    results = {}
    for entry in entries(found, limit(0), keras=keras):
        (result,) = entry["results"]
        results[entry["attack"], entry["goal"]] = (
            result["attacked"],
            result["already_wrong"],
            result["error_rate"],
        )
    return results


@pytest.fixture
def faces(tiny_faces) -> FaceDataset:
    return open_folder(tiny_faces)


@pytest.fixture
def pairs(faces):
    return CONFIG.drawn(faces, "all-pairs")


@pytest.fixture
def on_keras(faces, pairs, tiny_embedder):
    # Of these drawn faces some genuine pairs are farther apart, and all impostor pairs.
    return attack_keras(CONFIG, faces, pairs, tiny_embedder, recipe("whole"), limit(0.02))


@pytest.mark.parametrize("goal", [Dodging(), Impersonation()])
def test_an_artifact_answers_as_its_model_does(made, tiny_embedder, crops, goal):
    exact, oracle = Victim(tiny_embedder.model, goal), as_victim(made("tflite").embedder(as_bytes=True), goal, crops)
    assert oracle.input_shape == exact.input_shape
    expected = exact.targets(crops[::-1], 0.3)
    np.testing.assert_allclose(oracle.targets(crops[::-1], 0.3), expected, atol=1e-5)
    won, margin = oracle.assess(crops, expected)
    assert won.tolist() == (margin > 0).tolist()
    np.testing.assert_allclose(margin, exact.assess(crops, expected)[1], atol=1e-5)


def test_an_artifact_has_no_gradient(made, crops):
    oracle = as_victim(made("tflite").embedder(as_bytes=True), Dodging(), crops)
    targets = oracle.targets(crops, 0.05)
    with pytest.raises(UserError, match="gives no gradients: attack it with `square`"):
        run(PGD(), oracle, crops, targets, 0.1)
    assert run(Square(queries=100), oracle, crops, targets, 0.5).success.any()


def test_what_fools_the_model_fools_its_exact_artifact(made, on_keras, pairs):
    found = attack_artifact(CONFIG, on_keras, pairs, made("tflite").embedder(as_bytes=True), limit(0.02))
    expected, transferred = rates(on_keras, keras=True), rates(found)
    for goal in ("dodging", "impersonation"):
        attacked, _, error = expected["fgsm", goal]
        # Pairs that the Keras model gets wrong unattacked have no adversarial image.
        assert transferred["fgsm", goal] == (attacked, 0, error)
        assert transferred["square", goal] == expected["square", goal]
    assert expected["fgsm", "dodging"][2] > 0 and expected["fgsm", "dodging"][0] > 0
    assert [entry["made_on"] for entry in entries(found, limit(0), keras=False)] == ["keras"] * 2 + ["artifact"] * 2
    assert {entry["made_on"] for entry in entries(on_keras, limit(0), keras=True)} == {"keras"}


def test_the_artifact_is_judged_at_its_own_threshold(made, on_keras, pairs):
    reader = made("tflite", "int8").embedder(as_bytes=True)
    lax, strict = (rates(attack_artifact(CONFIG, on_keras, pairs, reader, limit(value))) for value in (2.0, -1.0))
    attacked = {goal: rates(on_keras)["fgsm", goal][0] for goal in pairs}
    # Up to a distance of 2 every pair matches: no genuine one falls apart, every impostor one matches unattacked.
    assert lax["fgsm", "dodging"] == (attacked["dodging"], 0, 0)
    assert lax["fgsm", "impersonation"] == (0, attacked["impersonation"], None)
    assert strict["fgsm", "dodging"] == (0, attacked["dodging"], None)
    assert strict["fgsm", "impersonation"] == (attacked["impersonation"], 0, 0)
    assert strict["square", "dodging"] == (0, 6, None)


def test_it_goes_on_where_it_was(made, faces, pairs, on_keras, tiny_embedder, monkeypatch):
    reader = made("tflite").embedder(as_bytes=True)
    first = rates(attack_artifact(CONFIG, on_keras, pairs, reader, limit(0.02)))
    monkeypatch.setattr(running, "attack_batch", lambda *_: pytest.fail("attacked again"))
    again = attack_keras(CONFIG, faces, pairs, tiny_embedder, recipe("whole"), limit(0.02))
    assert rates(again) == rates(on_keras)
    assert rates(attack_artifact(CONFIG, again, pairs, reader, limit(0.02))) == first


def test_the_threshold_is_the_calibrated_one():
    calibrated = {"threshold": 0.5, "threshold_source": "folds"}
    fixed = {"threshold": 0.4, "threshold_source": "paper"}
    judged = {"metric": "cosine", "calibrated": calibrated, "fixed": fixed}
    assert threshold_of(judged) == Threshold(0.5, "cosine", "folds")
    assert threshold_of({**judged, "calibrated": None}) == Threshold(0.4, "cosine", "paper")
