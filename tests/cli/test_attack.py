"""`attack` on the command line: its schema, its pictures, going on after a kill, what it refuses."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tfface.data import manifest
from tfface.robustness import run as running

HEAD = ["command", "model", "preset", "weights_sha256", "recipe", "dataset", "dataset_version", "seed", "versions"]
HEAD += ["started", "seconds", "metric", "threshold", "threshold_source", "threshold_errors"]
TRIAL = ["attack", "attack_settings", "norm", "goal", "subjects", "count", "failed_crops", "judged"]
TRIAL += ["surrogate", "surrogate_sha256"]


@pytest.fixture
def attack(run_cli, tiny_model, tiny_faces, tmp_path):
    """Runs `attack` on the tiny faces at a threshold that tells them apart; its result and metrics, if any."""

    def run(*options: object, dataset: Path = tiny_faces, threshold: object = 0.05):
        out = tmp_path / "out"
        given = [] if threshold is None else ["--threshold", threshold]
        result = run_cli("attack", "--model", "tiny", "--dataset", dataset, "--out", out, *given, *options)
        path = out / "metrics.json"
        return result, json.loads(path.read_text()) if path.exists() else None

    return run


@pytest.fixture
def six_people(tmp_path, make_photo) -> Path:
    root = tmp_path / "six people"
    for person in range(6):
        (root / f"person {person}").mkdir(parents=True)
        for number in range(8):
            data = cv2.imencode(".png", make_photo(person, number)[:, :, ::-1])[1].tobytes()
            (root / f"person {person}" / f"{number}.png").write_bytes(data)
    return root


def untimed(metrics: dict) -> dict:
    """Without what differs from run to run."""
    whole = metrics.get("models", [metrics])
    return {
        str(at): {key: one[key] for key in one if key not in ("started", "seconds")} for at, one in enumerate(whole)
    }


def test_writes_the_schema_and_pictures(attack, tmp_path):
    result, metrics = attack("--goal", "impersonation", "--epsilon", "0.05", "--epsilon", "0.2")
    assert result.code == 0, result.err
    assert list(metrics) == [*HEAD, *TRIAL, "results"]
    assert (metrics["command"], metrics["attack"], metrics["norm"], metrics["goal"]) == (
        "attack",
        "fgsm",
        "linf",
        "impersonation",
    )
    # Of the 45 pairs of 10 photographs 9 are genuine.
    assert (metrics["count"], metrics["subjects"], metrics["failed_crops"]) == (36, "all-pairs", 0)
    assert (metrics["threshold"], metrics["threshold_source"]) == (0.05, "given")
    assert metrics["threshold_errors"]["impostor"] == 36
    for entry in metrics["results"]:
        assert list(entry) == ["epsilon", "attacked", "already_wrong", "error_rate", "ci95"]
        assert entry["attacked"] + entry["already_wrong"] == 36
        assert entry["ci95"][0] <= entry["error_rate"] <= entry["ci95"][1]
    # The same verdicts as the threshold's errors: a pair that matches before any attack is a false accept.
    assert metrics["results"][0]["already_wrong"] == round(36 * metrics["threshold_errors"]["far"])
    for name in ("figure1.png", "error_rate.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out" / "figure1" / "figure1.json").read_text())["epsilons"] == [0, 0.05, 0.2]


def test_a_grid_stands_in_one_table(attack, tmp_path):
    names = ("--attack", "fgsm", "--attack", "bim", "--steps", "2", "--norm", "linf", "--norm", "l2")
    goals = ("--goal", "dodging", "--goal", "impersonation")
    result, metrics = attack(*names, *goals, "--epsilon", "0.1", "--count", "3")
    assert result.code == 0, result.err
    cells = [(entry["goal"], entry["attack"], entry["norm"]) for entry in metrics["models"]]
    assert cells == [
        (goal, name, norm)
        for goal in ("dodging", "impersonation")
        for name in ("fgsm", "bim")
        for norm in ("linf", "l2")
    ]
    by_norm = {entry["norm"]: entry["results"][0] for entry in metrics["models"]}
    assert by_norm["l2"]["l2"] == pytest.approx(0.1 * np.sqrt(3 * 32 * 32))
    assert "l2" not in by_norm["linf"]
    assert metrics["models"][2]["attack_settings"]["steps"] == 2
    assert not (tmp_path / "out" / "error_rate.png").exists(), "one epsilon is no curve"


def test_the_smallest_epsilon(attack, tmp_path):
    result, metrics = attack("--goal", "impersonation", "--minimal", "--count", "5")
    assert result.code == 0, result.err
    assert list(metrics) == [
        *HEAD, *TRIAL, "attacked", "already_wrong", "failed", "median_epsilon", "ci95",
    ]  # fmt: skip
    assert 0 < metrics["median_epsilon"] < 1
    assert (tmp_path / "out" / "minimal_epsilon.png").exists()
    assert not (tmp_path / "out" / "figure1").exists(), "no epsilon is common to the photographs"


def test_the_papers_table_and_its_head_again(attack, six_people, tmp_path):
    result, metrics = attack("--goal", "classify", "--epsilon", "0.01", "--epsilon", "0.3", dataset=six_people)
    assert result.code == 0, result.err
    assert list(metrics) == [*HEAD, *TRIAL, "results", "head", "clean"]
    assert metrics["head"]["people"] == [f"person {number}" for number in range(6)]
    assert (metrics["head"]["train"], metrics["head"]["test"]) == (36, 12)
    assert (metrics["head"]["copies"]) == 6 * (150 - 6)
    assert "The paper's Table 2" in result.out and "68%" in result.out
    head = tmp_path / "out" / "head.npz"
    again, repeated = attack("--goal", "classify", "--epsilon", "0.3", "--head", head, dataset=six_people)
    assert again.code == 0, again.err
    assert repeated["results"][0] == metrics["results"][1]
    refused, _ = attack("--goal", "classify", "--head", head)
    assert refused.code == 2
    assert "head.npz tells apart person 0" in refused.err and refused.err.count("\n") == 1


def test_a_killed_run_goes_on(attack, tmp_path, monkeypatch):
    options = ("--attack", "pgd", "--steps", "2", "--goal", "impersonation", "--epsilon", "0.1")
    monkeypatch.setattr("tfface.robustness.trial.BATCH", 16)
    real, calls = running.attack_batch, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(running, "attack_batch", killed)
    stopped, nothing = attack(*options, "--save", tmp_path / "made")
    assert (stopped.code, nothing) == (130, None)
    resumed, metrics = attack(*options, "--save", tmp_path / "made")
    assert resumed.code == 0 and len(calls) == 4
    files = {path.relative_to(tmp_path / "made"): path.read_bytes() for path in (tmp_path / "made").rglob("*.png")}
    monkeypatch.setenv("TFFACE_CACHE", str(tmp_path / "other cache"))
    whole, undisturbed = attack(*options, "--save", tmp_path / "once")
    assert whole.code == 0, whole.err
    assert untimed(metrics) == untimed(undisturbed)
    assert files == {
        path.relative_to(tmp_path / "once"): path.read_bytes() for path in (tmp_path / "once").rglob("*.png")
    }
    assert len(files) == len(manifest.read(tmp_path / "made").records) == metrics["results"][0]["attacked"]


def test_a_saved_data_set_is_judged_as_files_and_evaluated(attack, run_cli, tmp_path):
    result, metrics = attack("--goal", "dodging", "--epsilon", "0.3", "--save", tmp_path / "made")
    assert result.code == 0, result.err
    assert metrics["judged"] == "8-bit"
    evaluated = run_cli("evaluate", "--model", "tiny", "--dataset", tmp_path / "made")
    assert evaluated.code == 0, evaluated.err
    assert "9 images of 3 people" in evaluated.out
    other, _ = attack("--goal", "dodging", "--epsilon", "0.2", "--save", tmp_path / "made")
    assert other.code == 2 and "holds another run" in other.err


def test_pairs_of_ones_own_and_their_folds(attack, tmp_path):
    names = ["Ann Ames", "Bob_Burn", "Zoë Žák"]
    lines = ["a,b,same,fold"]
    for fold, (one, other) in enumerate([(0, 1), (1, 2), (2, 0)]):
        lines += [
            f"{names[one]}/{names[one]} {at}.jpg,{names[one]}/{names[one]} {at + 1}.jpg,1,{fold}" for at in (0, 1)
        ]
        lines += [f"{names[one]}/{names[one]} {at}.jpg,{names[other]}/{names[other]} 0.jpg,0,{fold}" for at in (0, 1)]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    result, metrics = attack("--pairs", tmp_path / "mine.csv", "--fold-thresholds", threshold=None)
    assert result.code == 0, result.err
    assert (metrics["subjects"], metrics["count"]) == ("mine.csv", 6)
    assert metrics["threshold_source"] == "each fold of mine.csv from the others (mean)"
    assert len(metrics["threshold_by_fold"]) == 3
    assert metrics["threshold"] == pytest.approx(np.mean(metrics["threshold_by_fold"]))


def test_what_transfers_from_a_surrogate(attack):
    result, metrics = attack("--goal", "impersonation", "--surrogate", "tiny", "--count", "4", "--epsilon", "0.1")
    assert result.code == 0, result.err
    assert (metrics["surrogate"], metrics["surrogate_sha256"]) == ("tiny/random", "0" * 64)
    _, own = attack("--goal", "impersonation", "--count", "4", "--epsilon", "0.1")
    assert metrics["results"] == own["results"], "the surrogate is the model itself"


def test_checks_come_first(attack, monkeypatch):
    verdict = {"masks_gradients": False, "attacked": 3, "rows": [{"check": "one", "passed": True, "measured": "all"}]}
    monkeypatch.setattr("tfface.robustness.attack.check_trial", lambda trial: verdict)
    result, metrics = attack(
        "--goal", "impersonation", "--count", "3", "--check", "--attack", "fgsm", "--attack", "bim"
    )
    assert result.code == 0, result.err
    assert [entry["check"] for entry in metrics["models"]] == [verdict, verdict]
    assert "passed" in result.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epsilon", "-0.1"], "'--epsilon'"),
        (["--epsilon", "1.5"], "'--epsilon'"),
        (["--epsilon", "nan"], "nan: give a number from 0 to 1"),
        (["--attack", "pdg"], "unknown attack 'pdg' (did you mean pgd?)"),
        (["--norm", "l1"], "unknown norm 'l1'; valid: linf, l2"),
        (["--goal", "dodge"], "valid: classify, dodging, impersonation"),
        (["--steps", "3"], "fgsm takes no --steps"),
        (["--minimal", "--epsilon", "0.1"], "leave out --epsilon, or --minimal"),
        (["--far", "0.1"], "--threshold, --far and --fold-thresholds"),
        (["--far", "1.5"], "'--far'"),
        (["--protocol", "view2"], "no pair list 'view2'"),
        (["--goal", "classify"], "no 6 people of 4 photographs or more"),
        (["--goal", "classify", "--protocol", "view2"], "leave out --pairs and --protocol"),
        (["--jpeg", "0"], "'--jpeg'"),
        (["--count", "0"], "'--count'"),
        (["--seed", "-1"], "'--seed'"),
        (["--head", "cli.py", "--goal", "classify"], "cli.py is no saved head"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line(attack, options, words):
    result, metrics = attack(*options)
    assert result.code == 2 and metrics is None
    assert result.err.count("\n") == 1 and words in result.err, result.err


def test_a_data_set_without_genuine_pairs(attack, tmp_path, make_photo):
    for person in range(2):
        (tmp_path / "ones" / f"p{person}").mkdir(parents=True)
        path = tmp_path / "ones" / f"p{person}" / "1.png"
        path.write_bytes(cv2.imencode(".png", make_photo(person, 0))[1].tobytes())
    result, _ = attack(dataset=tmp_path / "ones")
    assert result.code == 2
    assert "has no genuine pair to take apart" in result.err


def test_a_far_that_cannot_be_told(attack):
    result, _ = attack("--far", "0.001", "--count", "1", threshold=None)
    assert result.code == 2 and result.err.count("\n") == 1
    assert "--far 0.001" in result.err and "attack fewer pairs" in result.err
