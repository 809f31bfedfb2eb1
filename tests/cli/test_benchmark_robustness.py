import dataclasses
import json

import pytest

QUICK = ("--steps", 3, "--count", 3, "--check", 2, "--check-steps", 3, "--draws", 2, "--protocol", "all-pairs")


@pytest.fixture
def benchmarked(run_cli, tiny_model, wide_faces, tmp_path, monkeypatch):
    models = {"facenet": tiny_model, "other": dataclasses.replace(tiny_model, sha256="1" * 64)}
    monkeypatch.setattr("tfface.models._embedder.load_embedder", lambda name, offline=False: models[name])

    def run(*arguments):
        result = run_cli("benchmark-robustness", "--dataset", wide_faces, *QUICK, "--out", tmp_path / "out", *arguments)
        assert result.code == 0, result.err
        return json.loads((tmp_path / "out" / "metrics.json").read_text()), result

    return run


@pytest.fixture
def wide_faces(tmp_path, make_photo):
    """Twelve people of three photographs: some are in no attacked pair."""
    import cv2

    root = tmp_path / "wide faces"
    for person in range(12):
        (root / f"person {person}").mkdir(parents=True)
        for number in range(3):
            path = root / f"person {person}" / f"{number}.png"
            path.write_bytes(cv2.imencode(".png", make_photo(person, number)[:, :, ::-1])[1].tobytes())
    return root


def comparable(content):
    """What a resumed run must give again."""
    if isinstance(content, dict):
        dropped = ("started", "seconds", "ms")
        return {key: comparable(value) for key, value in content.items() if key not in dropped}
    if isinstance(content, list):
        return [comparable(value) for value in content]
    return round(content, 6) if isinstance(content, float) else content


def test_one_table_then_the_report_and_the_same_again(benchmarked, run_cli, tmp_path):
    rows = ("--goal", "dodging", "--defense", "median+resize-pad")
    metrics, result = benchmarked(*rows, "--surrogate", "other")
    assert [row["label"] for row in metrics["rows"]] == ["no defense", "median + resize-pad"]
    for row in metrics["rows"]:
        known = [attack["knowledge"] for attack in row["attacks"]]
        defended = bool(row["defense"])
        assert sorted(set(known)) == sorted({"white box", "transfer"} | ({"naive"} if defended else set()))
        assert set(row["checks"]) == set(row["detection"]) == {"dodging"}
        assert row["ms"] > 0
        assert row["accuracy"]["accuracy"] > 0.5
        assert row["verdict"]["status"] in (("broken", "no gain", "gains") if defended else ("undefended",))
    shown = " ".join(result.out.split())
    assert "no defense" in shown and "detection AUC" in shown and "certified" in shown
    for name in ("heat_map", "error_against_epsilon", "detection"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000
    page = tmp_path / "page.html"
    assert run_cli("report", tmp_path / "out", "--out", page).code == 0
    text = page.read_text()
    assert "What makes it harder to fool" in text and "median + resize-pad" in text
    again, second = benchmarked(*rows, "--surrogate", "other")
    assert comparable(again) == comparable(metrics)
    assert "checking gradients" not in second.err


def test_rows_are_what_was_asked_for(benchmarked, tmp_path):
    arguments = ("--no-detect", "--check", 0, "--goal", "dodging", "--defense", "none", "--defense", "median")
    metrics, result = benchmarked(*arguments, "--defense", "median")
    assert [row["label"] for row in metrics["rows"]] == ["no defense", "median"]
    assert metrics["rows"][1]["checks"] == metrics["rows"][1]["detection"] == {}
    assert "detection AUC" not in result.out
    assert not (tmp_path / "out" / "detection.png").exists()


def test_certificates_fill_the_row_of_their_noise(benchmarked, tmp_path):
    accuracy = {"value": 0.75, "ci95": [0.6, 0.85]}
    found = {
        "command": "certify",
        "versions": {},
        "started": "",
        "seconds": 0,
        "weights_sha256": "0" * 64,
        "smoothing": {"sigma": 0.1},
        "certified": [{"radius": 0.0, "accuracy": accuracy}, {"radius": 0.05, "accuracy": accuracy}],
    }
    folder = tmp_path / "certified"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(found))
    arguments = ("--no-detect", "--check", 0, "--goal", "dodging", "--certified", folder)
    noises = ("--defense", "noise:sigma=0.1,copies=2", "--defense", "noise:sigma=0.2,copies=2")
    metrics, result = benchmarked(*arguments, *noises)
    assert [row["certified"] for row in metrics["rows"]] == [None, {"radius": 0.05, "accuracy": accuracy}, None]
    assert "75.00% at L2 0.05" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--defense", "median+blur"], "unknown defense 'blur'"),
        (["--attack", "nothing"], "unknown attack 'nothing'"),
        (["--protocol", "view9"], "unknown protocol 'view9'"),
        (["--queries", "5"], "takes no --queries"),
    ],
)
def test_refuses(refused, tiny_model, tiny_faces, arguments, said):
    assert said in refused("benchmark-robustness", "--dataset", tiny_faces, *QUICK, *arguments)


def test_refuses_certificates_that_are_none(refused, tiny_model, tiny_faces, tmp_path, run_cli):
    assert run_cli("evaluate", "--dataset", tiny_faces, "--out", tmp_path / "evaluated").code == 0
    said = refused("benchmark-robustness", "--dataset", tiny_faces, *QUICK, "--certified", tmp_path / "evaluated")
    assert "holds a result of evaluate, not of certify" in said
