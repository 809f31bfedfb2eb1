import dataclasses

import numpy as np
import pytest

from tfface.attacks.pgd import PGD
from tfface.defenses._stack import apply
from tfface.preprocessing.images import recipe
from tfface.robustness import benchmark
from tfface.robustness.benchmark import RowConfig, benchmark_row
from tfface.robustness.detection import DetectionConfig
from tfface.robustness.experiment import ExperimentConfig
from tfface.robustness.results import verdict
from tfface.robustness.trial import Context


def cell(knowledge, median, low, high, goal="dodging"):
    """A cell; infinite numbers are None, as in `metrics.json`."""
    found = {"goal": goal, "attack": "pgd", "norm": "linf", "knowledge": knowledge, "attacked": 9}
    return {**found, "median_epsilon": median, "ci95": [low, high]}


def line(*cells, defense=("jpeg",), checks=None):
    return {"defense": list(defense), "attacks": list(cells), "checks": checks or {}}


BARE = line(cell("white box", 0.01, 0.008, 0.012), defense=())
PASSED = {"dodging": {"rows": [{"check": "c", "passed": True, "measured": ""}, {"check": "d", "passed": None}]}}
FAILED = {"dodging": {"rows": [{"check": "PGD always succeeds at epsilon 1", "passed": False, "measured": "3 of 4"}]}}


@pytest.mark.parametrize(
    ("entry", "status", "why"),
    [
        (BARE, "undefended", ""),
        (line(*BARE["attacks"], defense=(), checks=FAILED), "undefended", "always succeeds"),
        (line(cell("white box", 0.011, 0.009, 0.013)), "no gain", ""),
        (line(cell("white box", 0.02, 0.015, 0.03), cell("naive", 0.03, 0.02, 0.04), checks=PASSED), "gains", ""),
        (
            line(cell("white box", 0.02, 0.015, 0.03), cell("naive", 0.04, 0.03, 0.05)),
            "broken",
            "2.0 times the epsilon",
        ),
        (line(cell("white box", 0.02, 0.015, 0.03), cell("naive", None, None, None)), "broken", "any number of times"),
        (line(cell("white box", None, 0.5, None), cell("naive", None, None, None)), "gains", ""),
        (line(cell("white box", 0.02, 0.015, 0.03), cell("transfer", 0.05, 0.04, 0.06)), "gains", ""),
        (
            line(cell("white box", 0.02, 0.015, 0.03), cell("transfer", 0.01, 0.009, 0.0149)),
            "broken",
            "the white box needs more than the transfer attack",
        ),
        (
            line(cell("white box", 0.02, 0.015, 0.03), checks=FAILED),
            "broken",
            "dodging: PGD always succeeds at epsilon 1",
        ),
    ],
)
def test_verdicts(entry, status, why):
    found = verdict(entry, BARE)
    assert found["status"] == status
    assert why in "; ".join(found["why"])
    assert bool(why) == bool(found["why"])


def test_a_gain_for_one_goal_is_none_at_the_others_cost():
    """Half the epsilon is enough to impersonate: what dodging gains is no gain."""
    bare = line(cell("white box", 0.01, 0.008, 0.012), cell("white box", 0.01, 0.008, 0.012, "impersonation"))
    found = verdict(
        line(cell("white box", 0.02, 0.015, 0.03), cell("white box", 0.005, 0.004, 0.006, "impersonation")), bare
    )
    assert found["status"] == "no gain"
    assert found["gains"] == {"dodging, pgd linf": 2.0, "impersonation, pgd linf": 0.5}


@pytest.fixture
def asked():
    plan = ExperimentConfig(attacks=[("pgd", PGD(steps=3))], goals=("dodging",), count=4, draws=2)
    return RowConfig(plan, epsilon=0.2, check=2, check_steps=4, detection=DetectionConfig(photographs=8))


@pytest.fixture
def photographs(faces):
    return faces


def test_a_row_holds_every_cell_and_is_made_once(asked, photographs, tiny_embedder, monkeypatch):
    embedder = apply(tiny_embedder, ["resize-pad", "bit-depth"])
    found = benchmark_row(asked, Context(photographs, embedder, recipe("whole")))
    assert found["label"] == "resize-pad + bit-depth"
    assert [attack["knowledge"] for attack in found["attacks"]] == ["white box", "naive"]
    assert found["attacks"][0]["draws"] == 2 and "draws" not in found["attacks"][1]
    assert found["threshold"]["threshold"] == pytest.approx(found["accuracy"]["threshold"])
    for attack in found["attacks"]:
        assert len(attack["epsilons"]) + attack["failed"] == attack["attacked"] > 0
    assert [entry["passed"] for entry in found["checks"]["dodging"]["rows"]].count(None) == 1
    assert found["detection"]["dodging"]["epsilon"] == 0.2

    def refuse(*arguments, **options):
        raise AssertionError("computed again")

    for name in ("check_trial",):
        monkeypatch.setattr(benchmark, name, refuse)
    monkeypatch.setattr("tfface.robustness.detection._detect", refuse)
    monkeypatch.setattr("tfface.robustness.run.attack_batch", refuse)
    assert benchmark_row(asked, Context(photographs, embedder, recipe("whole"))) == found


def test_an_undefended_row_has_no_naive_attack(asked, photographs, tiny_embedder):
    asked = dataclasses.replace(asked, check=0, detection=None)
    found = benchmark_row(asked, Context(photographs, tiny_embedder, recipe("whole")))
    assert [attack["knowledge"] for attack in found["attacks"]] == ["white box"]
    assert found["checks"] == found["detection"] == {} and found["label"] == "no defense"
    assert np.all(np.diff(found["attacks"][0]["epsilons"]) >= 0)


def test_a_model_is_no_surrogate_of_itself(asked, photographs, tiny_embedder):
    asked = dataclasses.replace(asked, check=0, detection=None)
    found = benchmark_row(asked, Context(photographs, tiny_embedder, recipe("whole"), surrogate=tiny_embedder))
    assert [attack["knowledge"] for attack in found["attacks"]] == ["white box"]
