"""`reproduce` on the command line: every stage once, again only what must be, on after a kill."""

import html
import json
import shutil

import cv2
import pytest

from tfface.errors import UserError
from tfface.paper import retrain

TIMES = ("started", "seconds", "ms", "peak_megabytes", "speedup")
ALL = [
    *("1-evaluate", "2-mine", "3-retrain", "4-pairs", "5-attack", "6-adversarial", "7-augmented"),
    *("8-attack-again", "9-evaluate-again", "10-export", "11-report"),
]


@pytest.fixture
def photographs(tmp_path, make_photo):
    """Writes a folder of so many people, of so many photographs each."""

    def write(name: str, people: int, count: int):
        root = tmp_path / name
        for person in range(people):
            for number in range(count):
                path = root / f"p{person}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(cv2.imencode(".png", make_photo(person, number)[:, :, ::-1])[1].tobytes())
        return root

    return write


@pytest.fixture
def people(photographs):
    """Three people: too few for a head as the paper's."""
    return photographs("people", 3, 8)


@pytest.fixture
def reproduce(run_cli, tiny_model, people, tmp_path, monkeypatch):
    """Runs `reproduce` on the three people."""
    monkeypatch.setattr("tfface.artifacts.measure.peak_megabytes", lambda path: 1.0)

    def run(*options: object, dataset=people, out: str = "out"):
        return run_cli("reproduce", "--dataset", dataset, "--out", tmp_path / out, "--offline", *options)

    return run


def states(out: str) -> dict[str, str]:
    """What the table says became of each stage, by its folder."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[2] in ("run", "done before")}


def untimed(value):
    if isinstance(value, dict):
        return {key: untimed(part) for key, part in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [untimed(part) for part in value]
    return round(value, 6) if isinstance(value, float) else value


def metrics(folder) -> dict:
    return {
        path.parent.relative_to(folder).as_posix(): untimed(json.loads(path.read_text()))
        for path in folder.glob("*/metrics.json")
    }


def test_the_whole_paper_once(reproduce, tmp_path, monkeypatch):
    out = tmp_path / "out"
    result = reproduce("--epsilon", "0.05", "--epsilon", "0.1")
    assert result.code == 0, result.err
    assert states(result.out) == dict.fromkeys(ALL, "run")
    found = metrics(out)
    assert sorted(found) == sorted(name for name in ALL if name not in ("7-augmented", "11-report"))
    head = found["3-retrain"]["heads"]
    assert [found[name]["head"]["sha256"] for name in ("5-attack", "6-adversarial", "8-attack-again")] == [
        *(head["old"]["sha256"], head["old"]["sha256"], head["new"]["sha256"])
    ]
    assert [entry["goal"] for entry in found["4-pairs"]["models"]] == ["dodging", "impersonation"]
    assert {entry["quantization"] for entry in found["10-export"]["artifacts"]} == {"none", "float16", "int8"}
    assert [entry["dataset"] for entry in found["9-evaluate-again"]["models"]] == [
        *("folder:adversarial", "folder:augmented")
    ]
    assert (out / "7-augmented" / "augmented" / "manifest.json").exists()
    page = (out / "report.html").read_text()
    call = f"tfface.retrain(embedder='tiny/random', dataset='{tmp_path}/people', epsilons=[0.05, 0.1]"
    assert call in html.unescape(page.replace("<wbr>", ""))
    assert str(out / "report.html") in result.out

    # Nothing is left to do, and no function is called: neither a model nor TensorFlow would be needed.
    monkeypatch.setattr("tfface.models._embedder.load_embedder", lambda *_, **__: pytest.fail("a model was asked for"))
    monkeypatch.setattr("tfface.paper.reproduce.call_function", lambda name, _: pytest.fail(f"{name} was called"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = reproduce("--epsilon", "0.05", "--epsilon", "0.1")
    assert again.code == 0, again.err
    assert states(again.out) == dict.fromkeys(ALL, "done before")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_six_people_have_a_head_that_is_retrained(reproduce, photographs, tmp_path):
    result = reproduce("--epsilon", "0.1", "--only", "attack-again", dataset=photographs("six", 6, 4))
    assert result.code == 0, result.err
    assert list(states(result.out)) == ["3-attack", "5-retrain", "8-attack-again"]
    found = metrics(tmp_path / "out")
    assert found["5-retrain"]["heads"]["old"]["sha256"] == found["3-attack"]["head"]["sha256"]
    assert found["5-retrain"]["heads"]["new"]["sha256"] == found["8-attack-again"]["head"]["sha256"]


def test_a_changed_option_and_what_is_damaged(reproduce, tmp_path):
    parts = ("--only", "attack-again", "--only", "mine")
    first = reproduce("--epsilon", "0.1", *parts)
    assert first.code == 0, first.err
    assert states(first.out) == dict.fromkeys(["2-mine", "3-retrain", "8-attack-again"], "run")
    other = reproduce("--epsilon", "0.2", *parts)
    assert states(other.out) == {"2-mine": "done before", "3-retrain": "run", "8-attack-again": "run"}
    assert [entry["epsilon"] for entry in metrics(tmp_path / "out")["8-attack-again"]["results"]] == [0.2]
    expected = metrics(tmp_path / "out")
    (tmp_path / "out" / "2-mine" / "stage.json").write_text('{"format": 1, "comp')
    (tmp_path / "out" / "8-attack-again" / "metrics.json").unlink()
    mended = reproduce("--epsilon", "0.2", *parts)
    assert states(mended.out) == {"2-mine": "run", "3-retrain": "done before", "8-attack-again": "run"}
    assert metrics(tmp_path / "out") == expected


def test_a_stopped_stage_goes_on(reproduce, tmp_path, monkeypatch):
    options = ("--epsilon", "0.1", "--only", "attack-again", "--only", "mine")
    with monkeypatch.context() as patch:
        patch.setattr(retrain, "judge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        stopped = reproduce(*options)
    assert stopped.code == 130
    assert json.loads((tmp_path / "out" / "3-retrain" / "stage.json").read_text())["complete"] is False
    resumed = reproduce(*options)
    assert resumed.code == 0, resumed.err
    assert states(resumed.out) == {"2-mine": "done before", "3-retrain": "run", "8-attack-again": "run"}
    monkeypatch.setenv("TFFACE_CACHE", str(tmp_path / "other cache"))
    assert reproduce(*options, out="undisturbed").code == 0
    assert metrics(tmp_path / "out") == metrics(tmp_path / "undisturbed")


def test_a_failing_stage_is_one_line_and_keeps_the_earlier(reproduce, tmp_path, monkeypatch):
    def fail(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr(retrain, "judge", fail)
    result = reproduce("--epsilon", "0.1", "--only", "mine", "--only", "retrain")
    assert result.code == 2
    assert [line for line in result.err.splitlines() if not line.startswith("tfface: ")] == [
        "error: 3-retrain: the disk is full"
    ]
    assert json.loads((tmp_path / "out" / "2-mine" / "stage.json").read_text())["complete"] is True


@pytest.mark.usefixtures("tiny_model")
def test_what_is_refused(refused, people, tiny_faces, tmp_path, run_cli):
    out = tmp_path / "out"
    assert "unknown stage 'atack' (did you mean attack?)" in refused(
        "reproduce", "--dataset", people, "--out", out, "--only", "atack"
    )
    said = refused("reproduce", "--dataset", tiny_faces, "--out", out)
    assert "out reproduces the paper on folder:people (" in said and "), not on folder:tiny faces (" in said
    assert "is not empty and holds no reproduction" in refused("reproduce", "--dataset", people, "--out", people)
    assert "unknown data set 'nowhere'" in refused("reproduce", "--dataset", "nowhere", "--out", out)
    assert "--epsilon" in refused("reproduce", "--dataset", people, "--out", out, "--epsilon", "2")
    shutil.rmtree(out)


def test_models_that_cannot_be_had_are_told(reproduce, tiny_embedder, tmp_path, monkeypatch):
    from tfface.errors import Unavailable

    def load(name, offline=False):
        if name in ("resnet50", "deepface"):
            raise Unavailable(f"the weights of {name} cannot be had")
        return tiny_embedder

    monkeypatch.setattr("tfface.models._embedder.load_embedder", load)
    result = reproduce("--only", "evaluate")
    assert result.code == 0, result.err
    assert "left out: the weights of resnet50 cannot be had" in result.err
    record = json.loads((tmp_path / "out" / "1-evaluate" / "stage.json").read_text())
    assert record["absent"] == {name: f"the weights of {name} cannot be had" for name in ("resnet50", "deepface")}
    again = reproduce("--only", "evaluate")
    assert "left out: the weights of deepface cannot be had" in again.err
    monkeypatch.setattr("tfface.models._embedder.load_embedder", lambda name, offline=False: pytest.fail("asked again"))
    assert states(reproduce("--only", "evaluate").out) == {"1-evaluate": "done before"}
    monkeypatch.setattr("tfface.models._embedder.load_embedder", load)
    lacking = reproduce("--model", "resnet50", "--only", "evaluate")
    assert lacking.code == 2 and lacking.err.endswith("error: the weights of resnet50 cannot be had\n")
