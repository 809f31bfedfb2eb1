import csv
import json

import pytest

pytestmark = pytest.mark.usefixtures("tiny_model")
FAST = ("--protocol", "all-pairs", "--count", "8", "--samples", "60", "--guess", "10", "--alpha", "0.05")
FAST += ("--sigma", "0.05", "--recipe", "whole")


def test_a_table_a_plot_and_metrics(run_cli, tiny_faces, tmp_path):
    out = tmp_path / "out"
    result = run_cli("certify", "--dataset", tiny_faces, *FAST, "--check", "3", "--radius", "0.02", "--out", out)
    assert result.code == 0, result.err
    assert "Certified accuracy of tiny/random" in result.out and "times the radius" in result.out
    assert {path.name for path in out.iterdir()} == {"certified.png", "certificates.csv", "metrics.json"}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["command"] == "certify" and metrics["count"] == 8
    assert metrics["threshold"] == 0.2 and metrics["threshold_source"] == "preset: chosen for the tests"
    (entry,) = metrics["certified"]
    assert entry["radius"] == 0.02 and entry["genuine"]["count"] == entry["impostor"]["count"] == 4
    assert [one["factor"] for one in metrics["check"]["results"]] == [1.0, 10.0]
    with (out / "certificates.csv").open() as file:
        lines = list(csv.DictReader(file))
    certified = sum(
        line["answer"] != "abstains"
        and (line["answer"] == "same") == (line["same"] == "1")
        and float(line["radius"]) >= 0.02
        for line in lines
        if line["same"] == "1"
    )
    assert certified / 4 == entry["genuine"]["value"]


def test_a_list_in_folds(run_cli, tiny_faces, tmp_path):
    people = sorted(path.name for path in tiny_faces.iterdir() if len(list(path.iterdir())) == 3)
    images = [[str(path.relative_to(tiny_faces)) for path in sorted((tiny_faces / name).iterdir())] for name in people]
    lines = ["a,b,same,fold"]
    for fold, (one, other) in enumerate(((0, 1), (1, 2))):
        lines += [f"{images[one][0]},{images[one][1]},1,{fold}", f"{images[one][0]},{images[other][0]},0,{fold}"]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    options = ("--pairs", tmp_path / "pairs.csv", "--fold-thresholds", "--out", tmp_path / "out")
    assert run_cli("certify", "--dataset", tiny_faces, *FAST, *options).code == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["count"] == 4 and len(metrics["threshold_by_fold"]) == 2
    assert "from the others, one noisy copy of each photograph" in metrics["threshold_source"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sigma", "0"], "--sigma"),
        (["--fold-thresholds"], "--fold-thresholds needs pairs in folds: give --protocol view2"),
        (["--fold-thresholds", "--threshold", "0.3"], "each choose the threshold: give one of them"),
        (["--protocol", "view2"], "view2"),
        (["--alpha", "1"], "--alpha"),
    ],
)
def test_bad_input_is_one_line(refused, tiny_faces, options, message):
    assert message in refused("certify", "--dataset", tiny_faces, *FAST, *options)
