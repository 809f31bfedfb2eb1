import cv2

from tfface.report.distillation import comparison_rows, model_card, plot_curves
from tfface.utils.public import save_figure


def part(misses, people, mean):
    moments = {"count": 5, "mean": mean, "variance": 0.0314}
    return {
        "misses": misses,
        "people": people,
        "rate": misses / people,
        "genuine": moments,
        "impostor": {**moments, "mean": 1.375, "share_nearer": 0.123},
    }


def accuracy(value):
    return {"accuracy": value, "ci95": [value - 0.01, value + 0.01]}


METRICS = {
    "teacher": "facenet/msceleb",
    "preset": "student/made",
    "parameters": 671104,
    "epochs": 60,
    "dataset": "lfw",
    "recipe": "center-140",
    "speedup": 55.51,
    "images_per_second": {"student": 1900.4, "teacher": 34.2},
    "validation": {"accuracy": 0.923, "epoch": 41},
    "heldout": {"calibrated": accuracy(0.93), "fixed": accuracy(0.92), "remarks": []},
    "heldout_teacher": {"calibrated": None, "fixed": accuracy(0.99), "remarks": []},
    "misses": {"all": part(16, 1680, 0.857), "heldout": part(5, 346, 0.9)},
    "misses_teacher": {"all": part(1, 1680, 0.673), "heldout": part(0, 346, 0.7)},
}


def test_the_speed_of_tflite_files_where_it_was_measured():
    assert not any("TFLite" in row[0] for row in comparison_rows(METRICS))
    measured = {**METRICS, "tflite": {"ms": {"student": 0.514, "teacher": 20.5}, "speedup": 39.9}}
    rows = {row[0]: row[1:] for row in comparison_rows(measured)}
    assert rows["TFLite float32, one image: milliseconds"] == ["-", "20.50", "0.51"]
    assert rows["... times the teacher's speed"] == ["-", "1", "39.9"]


def test_the_papers_comparison():
    rows = {row[0]: row[1:] for row in comparison_rows(METRICS)}
    assert rows["genuine pairs of 1,680: mean/variance"] == ["0.85/0.04", "0.673/0.0314", "0.857/0.0314"]
    assert rows["impostor pairs: mean/variance"] == ["1.39/0.005", "1.375/0.0314", "1.375/0.0314"]
    assert rows["misses: genuine pairs 1.3 or more apart"] == [
        "32 of 1,680",
        "1 of 1,680 (0.06%)",
        "16 of 1,680 (0.95%)",
    ]
    assert rows["misses of held-out people alone"] == ["-", "0 of 346 (0.00%)", "5 of 346 (1.45%)"]
    assert rows["times the teacher's speed"] == ["5 to 50 times", "1", "55.5"]
    assert rows["held-out accuracy, calibrated"] == ["-", "-", "93.00% (92.00 to 94.00)"]


def test_a_model_card_names_data_numbers_and_command():
    record = {
        "input_size": 160,
        "embedding_size": 128,
        "recipe": "center-140",
        "metric": "cosine",
        "threshold": 0.61234,
        "threshold_source": "fold 8",
        "training_data": "9,501 photographs",
        "identities_seen": ["a", "b"],
        "licence": "MIT",
    }
    made = ["python cli.py distill --seed 1 --release", "python cli.py distill --release"]
    card = model_card({**METRICS, "made_by": made}, record)
    for text in (
        "# student/made",
        "671,104 weights",
        "9,501 photographs.",
        "lists the 2 people",
        "FaceNet's training sets were not cleaned",
        "16 of 1,680 (0.95%)",
        "```\npython cli.py distill --seed 1 --release\npython cli.py distill --release\n```",
        "92.30% at epoch 42 of 60",
        "0.6123 (fold 8)",
        "Licence: MIT.",
    ):
        assert text in card
    assert max(card.count(f"| {label} |") for label in ("images a second, batch 64",)) == 1


def test_curves(tmp_path):
    history = [{"loss": 1 / epoch, "cosine": 1 - 0.5 / epoch, "accuracy": 0.9 - 0.1 / epoch} for epoch in range(1, 9)]
    save_figure(plot_curves(history, 7, "student/made"), tmp_path / "curves.png")
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture.shape == (480, 1200, 3)
    assert (picture.std(axis=2) > 20).any()  # lines in colour


def test_epochs_on_smaller_views_are_shaded(tmp_path):
    history = [{"loss": 1 / epoch, "cosine": 1 - 0.5 / epoch, "accuracy": 0.9 - 0.1 / epoch} for epoch in range(1, 9)]
    save_figure(plot_curves(history, 7, "student/made"), tmp_path / "plain.png")
    for record in history[:3]:
        record.update(small_input=48, accuracy=0.99)
    save_figure(plot_curves(history, 7, "student/made"), tmp_path / "small.png")
    plain, small = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("plain", "small"))
    grey = [(picture.reshape(-1, 3) == picture.reshape(-1, 3)[:, :1]).all(axis=1) for picture in (plain, small)]
    shades = [
        ((picture.reshape(-1, 3)[one, 0] > 150) & (picture.reshape(-1, 3)[one, 0] < 250)).sum()
        for picture, one in zip((plain, small), grey, strict=True)
    ]
    assert shades[1] > shades[0] + 5_000
