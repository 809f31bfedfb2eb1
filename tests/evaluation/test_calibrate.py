"""Thresholds at stated false accept rates: right values, intervals that hold, refusals, and where they are kept."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import tfface
from tests.evaluation.test_scoring import PRESET, faces, pair_list
from tfface.errors import UserError
from tfface.evaluation.calibrate import calibrate_embeddings
from tfface.evaluation.embeddings import Embeddings
from tfface.evaluation.evaluate import evaluate
from tfface.evaluation.scoring import evaluate_embeddings
from tfface.metrics.distances import FarThreshold
from tfface.report.evaluation_tables import paper_row

FAR = 0.01


def people_of(count: int, images: int, *, seed: int, spread: float = 0.6, size: int = 4) -> tuple[str, Embeddings]:
    """Unit vectors around a direction of each person; two people who lie near one another make many close pairs."""
    random = np.random.default_rng(seed)
    centres = np.repeat(random.standard_normal((count, size)), images, axis=0)
    vectors = centres + spread * random.standard_normal(centres.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = "".join(chr(ord("A") + person) * images for person in range(count))
    return names, Embeddings(vectors, np.ones(len(vectors), bool), [])


def calibrated(names: str, found: Embeddings, *rates: float, **options):
    return calibrate_embeddings(faces(names, options.pop("lists", None)), found, PRESET, far=rates, **options)


def distances(names: str, found: Embeddings) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distances of all genuine and of all impostor pairs, by hand."""
    first, second = np.triu_indices(len(names), 1)
    values = 1 - (found.vectors[first].astype(float) * found.vectors[second]).sum(axis=1)
    same = np.array(list(names))[first] == np.array(list(names))[second]
    return values[same], values[~same]


def test_the_highest_threshold_of_the_rate():
    names, found = people_of(12, 6, seed=1)
    genuine, impostor = distances(names, found)
    result = calibrated(names, found, 0.05, FAR + 0.01)
    for row, entry in zip(result.thresholds, result.metrics["thresholds"], strict=True):
        assert (impostor <= row.threshold).mean() <= row.far < (impostor <= row.threshold + 1 / 8192).mean()
        assert row.impostors_beyond == (impostor <= row.threshold).sum() >= 30
        assert entry["measured_far"] == pytest.approx(row.impostors_beyond / len(impostor))
        assert entry["tar"] == pytest.approx((genuine <= row.threshold).mean())
        assert entry["tar_ci95"][0] < entry["tar"] < entry["tar_ci95"][1]
        assert row.low < row.threshold < row.high
    assert (result.metrics["genuine"], result.metrics["impostor"]) == (len(genuine), len(impostor))
    assert result.thresholds[0].source == "FAR 0.05 on all pairs of the 12 people of listed"


def test_in_another_metric_it_is_the_same_threshold():
    names, found = people_of(12, 6, seed=1)
    row = calibrated(names, found, 0.05).thresholds[0]
    other = dataclasses.replace(PRESET, metric="euclidean")
    euclidean = calibrate_embeddings(faces(names), found, other, far=[0.05]).thresholds[0]
    assert euclidean.threshold == pytest.approx((2 * row.threshold) ** 0.5)
    assert (euclidean.low, euclidean.high) == pytest.approx(((2 * row.low) ** 0.5, (2 * row.high) ** 0.5))


def test_the_interval_holds_the_true_threshold():
    """A population whose threshold is known: 95% intervals hold it where those of independent pairs would not.

    In 100 draws of 26 people with 8 photographs the intervals held it 100 times (the variance is a conservative one),
    those of 20,800 independent pairs 34 times; with 20 people at a FAR of 5% 97 and 24 times.
    """
    random = np.random.default_rng(0)
    centres = random.standard_normal((2, 3000, 4))
    pairs = centres + 0.3 * random.standard_normal((40, *centres.shape))
    pairs /= np.linalg.norm(pairs, axis=-1, keepdims=True)
    truth = np.quantile(1 - (pairs[:, 0] * pairs[:, 1]).sum(axis=-1), 0.02)
    held = naive = 0
    for seed in range(40):
        names, found = people_of(26, 8, seed=seed, spread=0.3)
        row = calibrated(names, found, 0.02).thresholds[0]
        held += row.low <= truth <= row.high
        _, impostor = distances(names, found)
        naive += np.quantile(impostor, 0.0181) <= truth <= np.quantile(impostor, 0.0219)
    assert held >= 36
    assert naive <= 24


def test_a_rate_on_fewer_than_30_pairs_is_refused():
    names, found = people_of(12, 6, seed=1)
    impostors = 12 * 11 // 2 * 36
    with pytest.raises(UserError, match=rf"only 23 of the {impostors:,} impostor pairs .* and 30 must") as error:
        calibrated(names, found, FAR)
    lowest = float(str(error.value).split("they support is ")[1].split(";")[0])
    assert lowest == pytest.approx(30 / impostors, rel=0.05)
    assert calibrated(names, found, lowest).thresholds[0].impostors_beyond >= 30


def test_too_few_people():
    names, found = people_of(2, 4, seed=1)
    with pytest.raises(UserError, match="make 16 impostor pairs, and 30 must lie beyond"):
        calibrated(names, found, 0.5)
    names, found = people_of(1, 4, seed=1)
    with pytest.raises(UserError, match="all pairs of the 1 people of listed are none"):
        calibrated(names, found, 0.5)
    names, found = people_of(12, 1, seed=1)
    with pytest.raises(UserError, match="no genuine pairs"):
        calibrated(names, found, 0.5)


def test_a_part_of_the_people():
    """Fold 2 and View 1's training list name people by a pair each; all of their photographs count."""
    names, found = people_of(24, 6, seed=2)
    both = [(6 * person, 6 * person + 1, True, int(person >= 12)) for person in range(24)]
    lists = {"view2": pair_list(both), "view1-train": pair_list(both[:12], "view1-train")}
    half = Embeddings(found.vectors[72:], found.ok[72:], [])
    expected = calibrated(names[72:], half, 0.05).thresholds[0]
    fold = calibrated(names, found, 0.05, people="fold2", lists=lists)
    assert fold.thresholds[0].threshold == expected.threshold
    assert (fold.metrics["identities"], fold.metrics["images"]) == (12, 72)
    assert "the 12 people of fold 2 of listed's view2" in fold.thresholds[0].source
    train = calibrated(names, found, 0.05, people="view1-train", lists=lists)
    first = Embeddings(found.vectors[:72], found.ok[:72], [])
    assert train.thresholds[0].threshold == calibrated(names[:72], first, 0.05).thresholds[0].threshold
    with pytest.raises(UserError, match="`people` fold3: view2 of listed has fold1 to fold2"):
        calibrated(names, found, 0.05, people="fold3", lists=lists)
    with pytest.raises(UserError, match="`people` view9: listed has no pair list"):
        calibrated(names, found, 0.05, people="view9", lists=lists)


def test_people_seen_in_training_are_remarked():
    names, found = people_of(12, 6, seed=1)
    preset = dataclasses.replace(PRESET, identities_seen=frozenset("ABX"))
    result = calibrate_embeddings(faces(names), found, preset, far=[0.05])
    assert "saw 2 of these 12 people" in result.metrics["remarks"][0]


def row(far: float, threshold: float, recipe: str = "") -> FarThreshold:
    return FarThreshold(far, threshold, 0, 1, 30, f"FAR {far:g} on a test", recipe)


def test_new_thresholds_replace_those_of_their_rate_and_recipe():
    old = dataclasses.replace(PRESET, thresholds=(row(0.01, 0.1, "whole"), row(0.1, 0.2, "whole")))
    new = old.calibrated([row(0.01, 0.3, "whole"), row(0.1, 0.4, "center-140")])
    assert [(one.far, one.threshold) for one in new.thresholds] == [(0.01, 0.3), (0.1, 0.4), (0.1, 0.2)]
    assert new.threshold == PRESET.threshold
    first = dataclasses.replace(PRESET, threshold=None).calibrated([row(0.01, 0.3)])
    assert (first.threshold, first.threshold_source) == (0.3, "FAR 0.01 on a test")


def test_one_place_decides(caplog):
    preset = dataclasses.replace(PRESET, thresholds=(row(0.01, 0.1, "whole"), row(0.1, 0.2, "whole")))
    assert preset.decide() == ("cosine", 0.4, "made up")
    assert preset.decide(0.6) == ("cosine", 0.6, "given")
    assert preset.decide(far=0.1, recipe="whole") == ("cosine", 0.2, "FAR 0.1 on a test")
    with pytest.raises(UserError, match="each choose the threshold"):
        preset.decide(0.6, 0.1)
    with pytest.raises(UserError, match=r"no threshold calibrated at FAR 0.001 \(calibrated are: 0.01, 0.1\): run"):
        preset.decide(far=0.001)
    for wrong in (0, 1, 1.5, -0.1, float("nan")):
        with pytest.raises(UserError, match="give a rate between 0 and 1"):
            preset.decide(far=wrong)
    with pytest.raises(UserError, match="test/one has no threshold of its own: run `tfface calibrate test/one`"):
        dataclasses.replace(preset, threshold=None).decide()
    assert not caplog.records
    assert preset.decide(far=0.1, recipe="center-140")[2].endswith("recipe whole, used with center-140")
    assert "calibrated with recipe whole, not center-140" in caplog.text
    own = preset.calibrated([row(0.05, 0.15, "whole")])
    own = dataclasses.replace(own, threshold=0.15, threshold_source=own.thresholds[0].source)
    assert own.decide(recipe="whole")[2] == "FAR 0.05 on a test"
    assert own.decide(recipe="center-140")[2].endswith("recipe whole, used with center-140")
    two = dataclasses.replace(preset, thresholds=(*preset.thresholds, row(0.1, 0.25, "center-140")))
    assert two.decide(far=0.1, recipe="center-140")[1] == 0.25


def test_without_a_threshold_evaluate_has_no_fixed_entry():
    names, found = people_of(12, 6, seed=1)
    bare = dataclasses.replace(PRESET, threshold=None, other_thresholds=())
    judged = evaluate_embeddings(faces(names), found, bare)
    assert judged.fixed is None and judged.to_dict()["fixed"] is None
    assert judged.calibrated is not None and len(judged.metrics["rows"]) == 1
    given = evaluate_embeddings(faces(names), found, bare, threshold=0.2)
    assert given.fixed.source == "given"
    with_far = dataclasses.replace(bare, thresholds=(row(0.1, 0.2),))
    assert evaluate_embeddings(faces(names), found, with_far, far=0.1).metrics["fixed"] == {
        **given.metrics["fixed"],
        "threshold_source": "FAR 0.1 on a test",
    }


def test_tables_and_pictures_without_a_threshold(small, tiny_embedder, tmp_path):
    bare = dataclasses.replace(tiny_embedder, preset=dataclasses.replace(tiny_embedder.preset, threshold=None))
    judged = evaluate(bare, small)
    assert next(row[0] for row in judged.tables()[0].rows).startswith("calibrated:")
    assert "distances.png" in judged.save(tmp_path)
    cells = paper_row(judged.to_dict())
    assert cells[4].endswith("%") and cells[3] == "-"
    table = evaluate([bare, tiny_embedder], small).tables()[0]
    place = table.columns.index("accuracy, fixed")
    assert table.rows[0][place] == "-" and table.rows[1][place].endswith("%")
    with pytest.raises(UserError, match="has no threshold of its own"):
        tfface.mine(bare, small)
    with pytest.raises(UserError, match="has no threshold of its own"):
        tfface.attack(bare, small, epsilons=0.01, count=1)


@pytest.fixture
def small(cache, many_faces):
    return str(many_faces)


def test_a_preset_s_thresholds_are_kept_in_the_cache(small):
    """By weights: a later calibration adds to them, and other weights of that name have none."""
    name = "student/lfw-distilled"
    shipped = tfface.load_embedder(name).preset
    first = tfface.calibrate(name, small, far=(0.2, 0.1), recipe="whole")
    tfface.calibrate(name, small, far=0.15, recipe="whole")
    loaded = tfface.load_embedder(name)
    mine = [one for one in loaded.preset.thresholds if one.recipe == "whole"]
    assert [one.far for one in mine] == [0.15, 0.2, 0.1]
    assert mine[1:] == list(first.thresholds)
    assert loaded.preset.threshold == shipped.threshold
    assert first.to_dict()["record"].endswith("thresholds/student/lfw-distilled.json")
    judged = evaluate(name, small, far=0.1, recipe="whole")
    assert judged.fixed.threshold == first.thresholds[1].threshold
    assert judged.fixed.far == pytest.approx(first.metrics["thresholds"][1]["measured_far"])
    assert judged.fixed.far <= 0.1
    path = Path(first.to_dict()["record"])
    held = json.loads(path.read_text())
    held["weights"] = {"0" * 64: held["weights"][loaded.sha256]}
    path.write_text(json.dumps(held))
    assert tfface.load_embedder(name).preset == shipped
    path.write_text(json.dumps({"weights": {loaded.sha256: [{"far": 1}]}}))
    with pytest.raises(UserError, match=r"lfw-distilled.json holds damaged thresholds: delete them, and calibrate"):
        tfface.load_embedder(name)


def test_nothing_is_written_unless_asked(small, tiny_embedder):
    found = tfface.calibrate(tiny_embedder, small, far=0.1, write=False)
    assert "record" not in found.to_dict()
    assert found.embedder.preset.thresholds == found.thresholds
    assert found.embedder.preset.decide(far=0.1)[1] == found.thresholds[0].threshold
    defended = tfface.defenses.apply(tiny_embedder, "jpeg")
    with pytest.raises(UserError, match="belongs to the model itself"):
        tfface.calibrate(defended, small, far=0.1)
    unknown = dataclasses.replace(tiny_embedder, sha256="unknown")
    with pytest.raises(UserError, match="does not say which weights it has"):
        tfface.calibrate(unknown, small, far=0.1)
    for wrong in (0.0, 1.0, 2.0, float("nan"), ()):
        with pytest.raises(UserError, match="give a rate between 0 and 1"):
            tfface.calibrate(tiny_embedder, small, far=wrong)


def test_a_file_s_thresholds_are_written_beside_it(small, tiny_embedder, tmp_path):
    """Its own threshold is the first that was calibrated last, unless it was given by hand."""
    path = tmp_path / "my.keras"
    tiny_embedder.model.save(path)
    text = f"{path}:scale=0..1,recipe=whole"
    assert tfface.load_embedder(text).preset.threshold is None
    first = tfface.calibrate(text, small, far=(0.2, 0.1))
    record = json.loads((tmp_path / "my.keras.tfface.json").read_text())
    assert first.to_dict()["record"] == str(tmp_path / "my.keras.tfface.json")
    assert (record["threshold"], record["threshold_source"]) == (
        first.thresholds[0].threshold,
        first.thresholds[0].source,
    )
    assert tfface.load_embedder(text).preset.thresholds == first.thresholds
    photograph = next(Path(small).rglob("*.png"))
    verified = tfface.verify(text, photograph, photograph, far=0.1)
    assert verified.threshold == first.thresholds[1].threshold
    second = tfface.calibrate(text, small, far=0.15)
    loaded = tfface.load_embedder(text).preset
    assert loaded.threshold == second.thresholds[0].threshold
    assert [row.far for row in loaded.thresholds] == [0.15, 0.2, 0.1]
    tfface.calibrate(f"{text},threshold=0.3", small, far=0.12)
    assert json.loads((tmp_path / "my.keras.tfface.json").read_text())["threshold"] == loaded.threshold
    assert tfface.load_embedder(f"{text},threshold=0.3").preset.threshold == 0.3


def test_a_function_is_calibrated_in_this_process(small, tiny_embedder, cache):
    wrapped = tfface.wrap(lambda images: tiny_embedder.embed(images), 32, recipe="whole")
    found = tfface.calibrate(wrapped, small, far=0.1)
    assert "record" not in found.to_dict() and not (cache / "thresholds").exists()
    assert found.embedder.preset.decide(recipe="whole")[1] == found.thresholds[0].threshold
    assert found.thresholds[0].threshold == tfface.calibrate(tiny_embedder, small, far=0.1).thresholds[0].threshold
