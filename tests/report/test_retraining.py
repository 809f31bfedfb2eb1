"""What a person reads of a retraining."""

import copy

import cv2
import pytest

from tfface.cli._command import show
from tfface.report.retraining import plot_retraining, retraining_tables, title
from tfface.utils.public import save_figure


def rate(errors: int, images: int = 200) -> dict:
    value = errors / images
    return {
        "images": images,
        "errors": errors,
        "error_rate": value,
        "ci95": [max(value - 0.03, 0), min(value + 0.03, 1)],
    }


def sets(clean: int, old: int, new: int) -> dict:
    return {
        "clean": rate(clean),
        "augmented": rate(clean + 1),
        "adversarial_old_head": rate(old),
        "adversarial_new_head": rate(new),
    }


def adversarial(*errors: int) -> dict:
    return dict(zip(("adversarial_old_head", "adversarial_new_head"), map(rate, errors), strict=True))


def space(accuracy: float | None, dimensions: int) -> dict:
    bounds = None if accuracy is None else [accuracy - 0.01, accuracy + 0.005]
    return {"dimensions": dimensions, "accuracy": accuracy, "ci95": bounds, "auc": 0.9876, "eer": 0.0234}


PERSON = {"person": "Ann [red] Ames", "train": 1234, "test": 411, "copies_before": 0, "copies_added": 987}
METRICS = {
    "preset": "facenet/msceleb",
    "dataset": "lfw/deepfunneled",
    "recipe": "center-140",
    "people": [
        {**PERSON, "mined_errors": 77, "hard": True},
        {**PERSON, "person": "Bob", "mined_errors": 0, "hard": False},
    ],
    "judged_on": "test photographs",
    "test_images": 822,
    "failed_images": 0,
    "remarks": ["read with care"],
    "train_images": {
        "before": {"clean": 2468, "augmented": 1, "adversarial": 0},
        "after": {"clean": 2468, "augmented": 1975, "adversarial": 4443, "adversarial_made": 9000},
    },
    "epsilons": [0.01, 0.02],
    "adversarial_share": 0.5,
    "rounds": 1,
    "hidden": 0,
    "before": sets(0, 170, 111),
    "after": sets(1, 6, 150),
    "per_epsilon": [
        {"epsilon": 0.01, "before": adversarial(150, 101), "after": adversarial(4, 130)},
        {"epsilon": 0.02, "before": adversarial(190, 121), "after": adversarial(8, 170)},
    ],
    "claims": [
        {"claim": "no regression", "paper": "p", "ours": "so much", "holds": True},
        {"claim": "gain", "paper": None, "ours": "none", "holds": None},
    ],
    "verification": {
        "pairs": "the pairs of folds 9 and 10",
        "count": 1196,
        "genuine": 598,
        "impostor": 598,
        "left_out": 4,
        "base": space(0.985, 128),
        "old_head": space(0.8, 6),
        "new_head": space(0.81, 6),
    },
}


def test_every_set_before_and_after_and_at_each_epsilon(capsys):
    show(retraining_tables(METRICS))
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in capsys.readouterr().out.splitlines()]
    for row in (
        ["Ann [red] Ames", "1,234", "411", "0", "77", "987", "hard"],
        ["new head", "2,468", "1,975", "4,443"],
        ["clean", "200", "0.00%", "0.00 to 3.00", "0.50%", "0.00 to 3.50"],
        ["FGSM on the old head", "200", "85.00%", "82.00 to 88.00", "3.00%", "0.00 to 6.00"],
        ["epsilon 0.02", "200", "95.00%", "92.00 to 98.00", "4.00%", "1.00 to 7.00"],
        ["epsilon 0.02", "200", "60.50%", "57.50 to 63.50", "85.00%", "82.00 to 88.00"],
        ["no regression: so much", "yes"],
        ["gain: none", "-"],
        ["new head", "6", "81.00%", "80.00 to 81.50", "0.9876", "2.34%"],
    ):
        assert row in rows, row


def test_strangers_are_told_of_where_there_are_any(capsys):
    show(retraining_tables(METRICS))
    assert "598 genuine, 598 impostor, 4 left out" in capsys.readouterr().out
    show(retraining_tables({**METRICS, "verification": {"pairs": "nobody is left", "count": 0}}))
    assert "Strangers" not in capsys.readouterr().out


def test_what_a_reader_must_know(capsys):
    assert title(METRICS).startswith(
        "Head of 2 people (linear) on facenet/msceleb, lfw/deepfunneled, center-140: 822 test photographs"
    )
    assert title(METRICS).endswith("50% adversarial, 1 round")
    other = title({**METRICS, "hidden": 64, "rounds": 2})
    assert "(a hidden layer of 64)" in other and other.endswith("2 rounds")
    show(retraining_tables(METRICS))
    assert capsys.readouterr().out.splitlines()[-1] == "Note: read with care"


@pytest.mark.parametrize("epsilons", [1, 2])
def test_the_picture(tmp_path, epsilons):
    """Its bars follow the numbers: with other errors it is another picture of the same size."""
    metrics = {**METRICS, "per_epsilon": METRICS["per_epsilon"][:epsilons]}
    save_figure(plot_retraining(metrics), tmp_path / "a.png")
    changed = copy.deepcopy(metrics)
    changed["after"]["clean"] = rate(100)
    save_figure(plot_retraining(changed), tmp_path / "b.png")
    first, second = (cv2.imread(str(tmp_path / name)) for name in ("a.png", "b.png"))
    assert first.shape == second.shape and min(first.shape[:2]) > 300
    assert (first != second).any()
