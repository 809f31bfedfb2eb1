"""`calibrate`, and the commands that take its thresholds by `--far`."""

import json

import pytest


@pytest.fixture
def calibrate(run_cli, cache, tiny_model, many_faces, tmp_path):
    """Runs `calibrate` of the tiny embedder; returns what it said, and wrote."""

    def run(*options: str):
        result = run_cli("calibrate", "tiny", "--dataset", many_faces, "--out", tmp_path / "out", *options)
        path = tmp_path / "out" / "metrics.json"
        return result, json.loads(path.read_text()) if path.exists() else None

    return run


def test_the_table_and_the_record(calibrate, cache):
    result, metrics = calibrate("--far", "0.1", "--far", "0.05")
    assert result.code == 0, result.err
    assert "impostor pairs beyond" in result.out and "--far takes these rates from now on" in result.out
    assert (metrics["command"], metrics["preset"], metrics["recipe"]) == ("calibrate", "tiny/random", "whole")
    held = json.loads((cache / "thresholds" / "tiny" / "random.json").read_text())
    rows = held["weights"]["0" * 64]
    assert [row["far"] for row in rows] == [0.1, 0.05]
    assert rows[0] == {key: metrics["thresholds"][0][key] for key in rows[0]}
    assert rows[0]["impostors_beyond"] >= 30
    assert rows[0]["low"] <= rows[0]["threshold"] <= rows[0]["high"]


def test_bad_rates_and_people(calibrate):
    for options, said in (
        (["--far", "1.5"], "'--far'"),
        (["--far", "0.001"], "the lowest FAR that they support is"),
        (["--people", "view1-train"], "--people view1-train: "),
    ):
        result, metrics = calibrate(*options)
        assert (result.code, metrics, result.err.count("\n")) == (2, None, 1), result.err
        assert said in result.err


@pytest.mark.parametrize("command", ["evaluate", "mine", "certify"])
def test_a_rate_that_was_not_calibrated(command, run_cli, cache, tiny_model, many_faces):
    own = ["--protocol", "all-pairs", "--count", "4", "--samples", "10"] if command == "certify" else []
    result = run_cli(command, "--model", "tiny", "--dataset", many_faces, "--far", "0.001", *own)
    assert result.code == 2
    assert "run `tfface calibrate tiny/random` with --far 0.001 first" in result.err
    both = run_cli(command, "--model", "tiny", "--dataset", many_faces, "--far", "0.1", "--threshold", "0.1", *own)
    assert both.code == 2 and "--threshold and --far each choose the threshold" in both.err
