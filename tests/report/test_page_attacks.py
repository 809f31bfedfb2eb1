"""The report's section on attacks: what stands beside the paper's figures, and what does not."""

from pathlib import Path

from tfface.report.page_attacks import attack_section
from tfface.report.page_runs import Chart, Run, TableBlock


def run(label: str, goal: str, norm: str = "linf", **more) -> Run:
    results = [{"epsilon": 0.01, "attacked": 4, "already_wrong": 1, "error_rate": 0.25, "ci95": [0.05, 0.7]}]
    metrics = {"attack": "fgsm", "norm": norm, "goal": goal, "metric": "cosine", "threshold": 0.4, "results": results}
    return Run(Path("/nowhere") / label, label, {**metrics, **more}, True)


def test_pairs_and_classifiers_stand_apart_and_the_papers_kind_first():
    runs = [run("pairs", "dodging"), run("l2", "classify", "l2"), run("papers", "classify"), run("more", "dodging")]
    section = attack_section(runs)
    tables = [block for block in section.blocks if isinstance(block, TableBlock) and "Error rate" in block.title]
    assert [list(table.columns[1:]) for table in tables] == [["paper: FGSM", "papers"], ["pairs", "more"], ["l2"]]
    assert [table.title.split(";")[0].rpartition(", ")[2] for table in tables] == [
        "photographs taken for another person",
        "pairs judged wrong",
        "photographs taken for another person",
    ]
    charts = [block for block in section.blocks if isinstance(block, Chart)]
    assert [chart.title.partition(" (")[2] for chart in charts] == ["linf)", "linf, pairs)", "l2)"]
    assert section.headlines[0] == ("25.00%", "errors at epsilon 0.01: papers")


def test_the_similarity_test_of_all_photographs_stands_before_that_of_what_fools():
    found = {"images": 4, "images_matched": 0.75, "ci95": [0.3, 0.95]}
    attacked = run("papers", "classify", clean={"error_rate": 0.2, "ci95": None, "similarity": found})
    attacked.metrics["results"][0]["similarity"] = {**found, "images": 1, "images_matched": 0.0}
    (table,) = [block for block in attack_section([attacked]).blocks if "similarity" in getattr(block, "title", "")]
    assert [row[:3] for row in table.rows] == [["papers", "none (all photographs)", "4"], ["papers", "0.01", "1"]]
    assert [row[3].split()[0] for row in table.rows] == ["75.00%", "0.00%"]
