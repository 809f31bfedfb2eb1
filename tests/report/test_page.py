import base64
import html.parser
import io
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tfface.errors import UserError
from tfface.report import page
from tfface.report.page import data_uri

ODD = "<b>Ann & \"Bob\"</b> 'Žák'"
VOID = {"meta", "img", "input", "wbr", "link", "br", "hr"}


def head(command: str, **more) -> dict:
    return {
        "command": command,
        "model": "facenet",
        "preset": "facenet/made",
        "weights_sha256": "ab" * 32,
        "recipe": "center-140",
        "dataset": "lfw/deepfunneled",
        "dataset_version": "1.0.0",
        "seed": 7,
        "versions": {"tfface": "0.1.0", "keras": "3.15.1"},
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 12.3,
        "a key of a later version": None,
        **more,
    }


def evaluation(**more) -> dict:
    moments = {"count": 3000, "mean": 0.6691, "variance": 0.0254}
    return head(
        "evaluate",
        **{
            "flip": False,
            "protocol": "view2",
            "images": 13233,
            "identities": 5749,
            "failed_images": 1,
            "metric": "cosine",
            "fixed": {"threshold": 0.4, "accuracy": 0.9603, "ci95": [0.9528, 0.9679]},
            "calibrated": {"threshold": 0.601, "accuracy": 0.9925, "ci95": [0.9898, 0.9952]},
            "auc": 0.9995,
            "eer": 0.007,
            "tar_at_far": {"0.01": {"value": 0.99, "ci95": None}, "0.001": {"value": 0.981, "ci95": [0.97, 0.99]}},
            "rows": [
                {"metric": "euclidean", "threshold": 0.47, "accuracy": 0.5473, "genuine": moments, "impostor": moments}
            ],
            "remarks": [f"a remark on {ODD}"],
            **more,
        },
    )


def mining() -> dict:
    kinds = {"count": 1234, "pairs": 5678, "rate": 0.2173}
    people = [{"person": ODD, "images": 12, "false_positives": 345, "false_negatives": 6}]
    return head(
        "mine",
        protocol="view2",
        metric="cosine",
        threshold=0.5809,
        threshold_source="each fold from the others",
        false_positives=kinds,
        false_negatives={**kinds, "count": 50},
        people=people,
    )


def rate(value: float) -> dict:
    return {"error_rate": value, "ci95": [value / 2, (1 + value) / 2]}


def attack(**more) -> dict:
    results = [
        {"epsilon": epsilon, "attacked": 200, "already_wrong": 3, **rate(value)}
        for epsilon, value in ((0.01, 0.6412), (0.02, 0.9501), (0.03, 0.9876))
    ]
    results[0]["similarity"] = {"images": 128, "images_matched": 0.75, "ci95": [0.67, 0.82]}
    settings = {"attack": "fgsm", "norm": "linf", "goal": "classify", "metric": "cosine", "threshold": 0.61}
    return head("attack", **{**settings, "results": results, **more})


def retraining() -> dict:
    sets = ["clean", "augmented", "adversarial_old_head", "adversarial_new_head"]
    return head(
        "retrain",
        before=dict(zip(sets, [rate(0.0102), rate(0.1203), rate(0.8404), None], strict=True)),
        after=dict(zip(sets, [rate(0.0111), rate(0.0312), rate(0.0513), rate(0.7014)], strict=True)),
        claims=[{"claim": "it is robust", "paper": "yes", "ours": "under its own gradient 70%", "holds": False}],
    )


def exports() -> dict:
    artifact = {"path": "out/model.tflite", "format": "tflite", "quantization": "int8", "bytes": 24_100_000, "ms": 5.8}
    cosines = {"embedding_cosine_min": 0.9975, "embedding_cosine_mean": 0.9991}
    return head("export", artifacts=[{**artifact, **cosines, "evaluate": {"fixed": {"accuracy": 0.9512}}}])


def write(folder: Path, metrics: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def picture(path: Path, size: tuple[int, int] = (40, 30), colour: int = 200) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), colour, np.uint8))
    return path.name


def figure_1(folder: Path, name: str = "figure1", **more) -> None:
    """Two photographs at epsilon 0, 0.01 and 0.02."""
    own = folder / name
    rows = [
        {
            "clean": picture(own / f"{row}c.png"),
            "reference": picture(own / f"{row}r.png"),
            "adversarial": [picture(own / f"{row}a{step}.png", colour=10 * step) for step in range(3)],
            "noise": [picture(own / f"{row}n{step}.png", colour=128 + step) for step in range(3)],
            "distances": [0.301, 0.612, 0.913],
            "verdicts": [True, False, f"taken for {ODD}"],
            "threshold": 0.58,
            "person": ODD,
        }
        for row in range(2)
    ]
    (own / "figure1.json").write_text(json.dumps({"epsilons": [0, 0.01, 0.02], "rows": rows, **more}))


class Reader(html.parser.HTMLParser):
    """Reads a page: its text, its tags, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words += data

    def of(self, name: str) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def build(tmp_path):
    """Builds the report of folders; returns what a reader finds in it, and the page's text."""

    def run(*folders: Path) -> tuple[Reader, str]:
        target = tmp_path / "page" / "report.html"
        page.write_report(folders, target)
        text = target.read_text()
        return Reader(text), text

    return run


@pytest.fixture
def whole_loop(tmp_path) -> Path:
    root = tmp_path / "all & <runs>"
    for name in ("roc", "distances"):
        picture(write(root / "evaluate", evaluation()) / f"{name}.png")
    for name in ("false_positives", "false_negatives"):
        picture(write(root / "mine", mining()) / f"{name}.png")
    figure_1(write(root / "attack", attack()), noise_factor=20)
    write(root / "retrain", retraining())
    write(root / "export", exports())
    return root


def test_every_section_shows_its_numbers(build, whole_loop):
    reader, _ = build(whole_loop)
    assert reader.open == [], "unclosed tags"
    assert [attributes["id"] for attributes in reader.of("section")] == [
        "models",
        "mining",
        "attacks",
        "retraining",
        "exports",
        "runs",
    ]
    for text in (
        *("0.47", "TODO", "54.73%", "99.25% (98.98\u00a0to\u00a099.52) at 0.601", "0.67/0.025", "13,232 of 13,233"),
        *("98.10% (97.00\u00a0to\u00a099.00) at 0.1%", "1,234 of 5,678 (21.730%)", "345"),
        *("68%", "89%", "100%", "64.12%", "95.01%", "98.76%", "128", "75.00%"),
        *("12.03%", "84.04%", "70.14%", "it is robust", "under its own gradient 70%"),
        *("24.1", "5.8", "0.9975", "0.9991", "95.12%"),
        *("ab" * 32, "lfw/deepfunneled 1.0.0", "2026-01-02T03:04:05+00:00", "tfface 0.1.0, keras 3.15.1: all runs"),
    ):
        assert text in reader.words, text


def test_nothing_is_fetched(build, whole_loop):
    """No address but those inside the page; the page's own policy would refuse any other."""
    reader, text = build(whole_loop)
    addresses = [attributes[name] for _, attributes in reader.tags for name in ("src", "href") if name in attributes]
    assert len(addresses) > 15
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in addresses)
    assert "link" not in {tag for tag, _ in reader.tags}
    assert "url(" not in text
    assert "@import" not in text
    assert "fetch(" not in text
    policy = next(entry["content"] for entry in reader.of("meta") if "http-equiv" in entry)
    assert policy.split("; ")[:2] == ["default-src 'none'", "img-src data:"]
    anchors = {address[1:] for address in addresses if address.startswith("#")}
    assert anchors == {attributes["id"] for attributes in reader.of("section")}


def test_names_are_text_not_markup(build, whole_loop):
    reader, text = build(whole_loop)
    assert ODD in reader.words
    assert f"a remark on {ODD}" in reader.words
    assert f"taken for {ODD}" in reader.words
    assert "<b>" not in text
    assert "b" not in {tag for tag, _ in reader.tags}


def test_light_and_dark(build, whole_loop):
    _, text = build(whole_loop)
    assert "@media (prefers-color-scheme: dark)" in text
    assert ':root[data-theme="dark"]' in text
    colours = [set(re.findall(r"--([\w-]+): #", part)) for part in re.split("color-scheme: (?:light|dark);", text)[1:]]
    assert len(colours[0]) > 10
    assert colours[0] == colours[1] == colours[2], "a colour has no counterpart in the dark"
    reader = Reader(text)
    assert [attributes["id"] for attributes in reader.of("button")] == ["theme"]


def test_figure_1_begins_near_epsilon_001(build, tmp_path):
    figure_1(write(tmp_path / "attack", attack()))
    reader, _ = build(tmp_path / "attack")
    (slider,) = reader.of("input")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "1")
    steps = [attributes for attributes in reader.of("img") if "data-step" in attributes]
    assert len(steps) == 2 * 2 * 3
    assert {attributes["data-step"] for attributes in steps if "hidden" not in attributes} == {"1"}
    assert "distance 0.612 (threshold 0.580): no match" in reader.words


def test_several_attacks_of_one_file_have_a_figure_each(build, tmp_path):
    runs = [attack(), attack(attack="pgd", norm="l2")]
    folder = write(tmp_path / "attack", {"models": runs})
    figure_1(folder, "figure1-1-classify-fgsm-linf")
    figure_1(folder, "figure1-2-classify-pgd-l2")
    reader, _ = build(folder)
    assert "Figure 1: attack (fgsm, linf)" in reader.words
    assert "Figure 1: attack (pgd, l2)" in reader.words
    assert "l2: the root mean square of the change" in reader.words
    assert "the sanity checks" not in reader.words


def test_a_search_for_the_smallest_epsilon(build, tmp_path):
    """Half of the photographs held: the median is infinite, which JSON has as null."""
    found = {"attacked": 40, "already_wrong": 2, "failed": 21, "median_epsilon": None, "ci95": [0.0123, None]}
    metrics = attack(goal="dodging", check={"masks_gradients": True}, **found)
    del metrics["results"]
    figure_1(write(tmp_path / "minimal", metrics))
    reader, _ = build(tmp_path / "minimal")
    assert "infinite (0.0123 to infinite)" in reader.words
    assert "the smallest that succeeds" in reader.words
    assert "masks its gradients" in reader.words
    assert "68%" not in reader.words, "the paper's figures are of another goal"


def test_runs_stand_side_by_side(build, tmp_path):
    other = attack()
    other["results"][0].update(rate(0.1234))
    folders = [write(tmp_path / "one" / "fgsm", attack()), write(tmp_path / "two" / "fgsm", other)]
    reader, text = build(*folders)
    assert "one/fgsm" in reader.words
    assert "two/fgsm" in reader.words
    row = re.search(r'<th scope="row">0\.01</th>.*?</tr>', text, re.S)[0]
    assert row.index("68%") < row.index("64.12%") < row.index("12.34%")


def test_corrupted_runs_are_no_row_of_table_1(build, tmp_path):
    models = [evaluation(corruption=None), evaluation(corruption="blur:2.0")]
    reader, text = build(write(tmp_path / "evaluate", {"models": models}))
    table_1, verification = text.split("<table>")[1:3]
    assert (table_1.count("<tr>"), verification.count("<tr>")) == (2, 3)
    assert "center-140 under blur:2.0" in reader.words


def test_commands_without_a_section_are_named(build, tmp_path):
    write(tmp_path / "verify", head("verify", dataset=None, dataset_version=None))
    reader, _ = build(tmp_path)
    assert [attributes["id"] for attributes in reader.of("section")] == ["runs"]
    assert "verify" in reader.words


def test_a_reproduction_shows_its_calls(build, whole_loop):
    line = "tfface.mine(dataset='five faces')"
    (whole_loop / "mine" / "stage.json").write_text(
        json.dumps({"stage": "mine", "call": line, "absent": {"resnet50": "no network"}})
    )
    reader, _ = build(whole_loop)
    assert line in reader.words
    assert "resnet50 is left out: no network" in reader.words
    (whole_loop / "mine" / "stage.json").unlink()
    assert line not in build(whole_loop)[0].words


def test_large_pictures_make_no_large_page(build, tmp_path, monkeypatch):
    """Noise does not compress: two pictures of it need a lower quality to stay below the limit."""
    folder = write(tmp_path / "mine", mining())
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3)).astype(np.uint8)
    for number in range(2):
        cv2.imwrite(str(folder / f"false_positives{number}.png"), noise)
    monkeypatch.setattr(page, "MOST_BYTES", 700_000)
    reader, text = build(folder)
    assert 100_000 < len(text) < 700_000
    assert len(reader.of("img")) == 2
    monkeypatch.setattr(page, "MOST_BYTES", 60_000)
    with pytest.raises(UserError, match="give fewer runs"):
        build(folder)


def test_a_picture_is_bounded_and_still_itself(tmp_path):
    pixels = np.zeros((500, 1000, 3), np.uint8)
    pixels[:, 500:] = (0, 0, 255)  # right half red, as OpenCV orders colours
    cv2.imwrite(str(tmp_path / "wide.png"), pixels)
    uri = data_uri(tmp_path / "wide.png", longest=200)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")).astype(int)
    assert shown.shape == (100, 200, 3)
    assert abs(shown[50, 150] - [255, 0, 0]).max() < 12
    assert shown[50, 50].max() < 12


def spoil(change) -> dict:
    metrics = evaluation()
    change(metrics)
    return metrics


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "as JSON"),
        ("[]", "no result of a tfface command"),
        ('{"accuracy": 1}', "lacks command, versions"),
        ('{"models": []}', "'models'"),
        (json.dumps(spoil(lambda metrics: metrics.pop("fixed"))), "no evaluate result as this version writes it"),
        (json.dumps(spoil(lambda metrics: metrics.update(auc="high"))), "run evaluate again"),
        (json.dumps({**attack(), "results": [{"epsilon": 0.1}]}), "no attack result"),
        (json.dumps({**retraining(), "after": {"clean": {"rate": 1}}}), "no retrain result"),
        (json.dumps({**exports(), "artifacts": [{}]}), "no export result"),
    ],
)
def test_another_schema_is_told_by_its_file(tmp_path, content, said):
    path = tmp_path / "run" / "metrics.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(said)) as error:
        page.write_report([tmp_path], tmp_path / "report.html")
    assert str(path) in str(error.value)
    assert not (tmp_path / "report.html").exists()


def test_a_figure_that_points_elsewhere_is_refused(tmp_path):
    folder = write(tmp_path / "attack", attack())
    figure_1(folder)
    path = folder / "figure1" / "figure1.json"
    path.write_text(path.read_text().replace("0c.png", "../../secret.png"))
    picture(tmp_path / "secret.png")
    with pytest.raises(UserError, match="lies outside of its folder"):
        page.write_report([folder], tmp_path / "report.html")


def test_a_broken_picture_is_told_by_its_file(tmp_path):
    folder = write(tmp_path / "evaluate", evaluation())
    (folder / "roc.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"roc\.png is no image"):
        page.write_report([folder], tmp_path / "report.html")


def test_a_folder_without_results(tmp_path):
    with pytest.raises(UserError, match=r"holds no metrics\.json"):
        page.write_report([tmp_path], tmp_path / "report.html")
