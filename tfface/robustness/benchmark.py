"""The robustness benchmark: a model behind each defense, under attackers who know more or less of it.

Every cell (a defense, a goal, an attack, what the attacker knows) is kept as soon as it is made.
"""

import dataclasses
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.defenses._stack import DefendedEmbedder
from tfface.evaluation.embeddings import embed_dataset
from tfface.evaluation.scoring import evaluate_embeddings
from tfface.preprocessing.images import Recipe
from tfface.robustness.cells import kept
from tfface.robustness.checking import RESTARTS, STEPS, check_trial
from tfface.robustness.detection import Watch, detect
from tfface.robustness.experiment import AttackConfig, Experiment, prepare
from tfface.robustness.pairs import ALL_PAIRS
from tfface.robustness.results import finite
from tfface.robustness.trial import Trial

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder

logger = logging.getLogger(__name__)

Metrics = dict[str, Any]
_FORMAT = 1
BROKEN = 2.0
"""A defense is broken where an attack that does not know it needs so many times the epsilon of one that does."""


@dataclass(frozen=True)
class Benchmark:
    """What is measured of every row.

    Attributes:
        plan: attacks, goals, protocol, count and seed; the smallest epsilon is always searched for.
        epsilon: of the attacks that a detector is tried on.
        check: photographs that the sanity checks are made on; 0 for none.
        check_steps: of PGD there.
        watch: how the detector is set; None for no detection.
    """

    plan: AttackConfig
    epsilon: float = 0.02
    check: int = 16
    check_steps: int = STEPS
    watch: Watch | None = None


def row(
    asked: Benchmark, dataset: FaceDataset, embedder: "Embedder", recipe: Recipe, surrogate: "Embedder | None" = None
) -> Metrics:
    """Everything about one model behind one stack but for its speed.

    Args:
        asked: what to measure.
        dataset: whose pairs.
        embedder: the model, defended or not.
        recipe: how photographs are cropped.
        surrogate: another model, for attacks that transfer; None for none.
    """
    stack = embedder.stack if isinstance(embedder, DefendedEmbedder) else ()
    label = " + ".join(defense.short for defense in stack) or "no defense"
    logger.warning(f"{embedder.preset.name}, {label}")
    plan = asked.plan
    found = evaluate_embeddings(
        dataset, embed_dataset(dataset, embedder, recipe), embedder.preset, protocol=plan.protocol, seed=plan.seed
    ).metrics
    calibrated = found["calibrated"] or found["fixed"]
    # What a defense does to distances is not held against it: each row has its own threshold.
    own = {"fold_thresholds": True} if plan.protocol != ALL_PAIRS else {"threshold": calibrated["threshold"]}
    plan = dataclasses.replace(plan, epsilons=(), **own)
    attacks: list[Metrics] = []
    direct: Experiment | None = None
    for seen in _seen(embedder, surrogate):
        experiment = prepare(plan, dataset, embedder, recipe, seen)
        direct = direct or experiment
        attacks += [_attack(trial, rows.epsilon[rows.attacked, 0], entry) for trial, rows, entry in experiment.run()]
    assert direct is not None, "every model is attacked directly"
    first: dict[str, Trial] = {}
    for trial in direct.trials:
        first.setdefault(trial.subjects.goal, trial)
    return {
        "label": label,
        "defense": list(embedder.defense),
        "defense_facts": embedder.record().get("defense_facts", []),
        "accuracy": calibrated,
        "threshold": direct.threshold.record(),
        "attacks": attacks,
        "checks": {goal: _check(trial, asked) for goal, trial in first.items()} if asked.check else {},
        "detection": {goal: _detection(trial, asked) for goal, trial in first.items()} if asked.watch else {},
        "certified": None,
    }


def verdict(entry: Metrics, undefended: Metrics) -> Metrics:
    """Whether what a row shows can be trusted: `undefended`, `broken`, `no gain` or `gains`, why, and by how much.

    Broken is what only looks good to an attack that does not know it, and what fails a sanity check: then even the
    white box's numbers overstate it. A gain is told where the interval of a white box's median lies above that of the
    undefended model's, for one goal at least, and below it for none.

    Args:
        entry: the row.
        undefended: the row of the model without defenses.
    """
    why = [
        f"{goal}: {row['check']} failed ({row['measured']})"
        for goal, check in entry["checks"].items()
        for row in check["rows"]
        if row["passed"] is False
    ]
    bare, gains, sides = _by_attack(undefended), {}, set()
    for key, by_knowledge in _by_attack(entry).items():
        what, white = "{}, {} {}".format(*key), by_knowledge["white box"]
        for knowledge, other in by_knowledge.items():
            why += [f"{what}: {reason}" for reason in _doubts(white, other, knowledge)]
        before = bare[key]["white box"]
        if white["attacked"] and before["attacked"]:
            gains[what] = finite(_median(white) / _median(before))
            sides.add((_bounds(white)[0] > _bounds(before)[1]) - (_bounds(white)[1] < _bounds(before)[0]))
    status = "gains" if 1 in sides and -1 not in sides else "no gain"
    return {
        "status": "undefended" if not entry["defense"] else "broken" if why else status,
        "why": why,
        "gains": gains if entry["defense"] else {},
    }


def _by_attack(entry: Metrics) -> dict[tuple[str, str, str], dict[str, Metrics]]:
    """A row's cells by (goal, attack, norm), then by what the attacker knows."""
    groups: dict[tuple[str, str, str], dict[str, Metrics]] = {}
    for attack in entry["attacks"]:
        groups.setdefault((attack["goal"], attack["attack"], attack["norm"]), {})[attack["knowledge"]] = attack
    return groups


def _doubts(white: Metrics, other: Metrics, knowledge: str) -> Iterator[str]:
    """What an attack that knows less says against the white box's number."""
    if other is white or not other["attacked"] or not white["attacked"]:
        return
    ratio = _median(other) / _median(white)  # not a number where both are infinite: that tells nothing
    if knowledge == "naive" and ratio >= BROKEN:
        times = f"{ratio:.1f}" if math.isfinite(ratio) else "any number of"
        yield f"unaware of the defense, it needs {times} times the epsilon"
    if _bounds(other)[1] < _bounds(white)[0]:
        yield f"the white box needs more than the {knowledge} attack"


def _seen(embedder: "Embedder", surrogate: "Embedder | None") -> Iterator["Embedder | None"]:
    """What attacks see in turn: the model itself, what stands behind its defense, another model."""
    yield None
    if isinstance(embedder, DefendedEmbedder):
        yield embedder.undefended
    if surrogate is not None and surrogate.sha256 != embedder.sha256:
        yield surrogate


def _attack(trial: Trial, epsilons: np.ndarray, entry: Metrics) -> Metrics:
    """A cell, with the smallest epsilon of every pair that fell, for curves."""
    knowledge = trial.context.knowledge or ("transfer" if trial.context.surrogate else "adaptive")
    return {
        **entry,
        "knowledge": "white box" if knowledge == "adaptive" else knowledge,
        "epsilons": np.sort(epsilons[np.isfinite(epsilons)]).tolist(),
    }


def _check(trial: Trial, asked: Benchmark) -> Metrics:
    settings = {"count": asked.check, "steps": asked.check_steps, "restarts": RESTARTS}
    fingerprint = {"format": _FORMAT, "trial": trial.fingerprint(), **settings}
    return kept("checks", fingerprint, lambda: check_trial(trial, **settings))


def _detection(trial: Trial, asked: Benchmark) -> Metrics:
    assert asked.watch is not None, "asked for"
    return detect(dataclasses.replace(trial, epsilons=(asked.epsilon,)), asked.watch)


def _median(attack: Metrics) -> float:
    return math.inf if attack["median_epsilon"] is None else float(attack["median_epsilon"])


def _bounds(attack: Metrics) -> list[float]:
    return [math.inf if bound is None else float(bound) for bound in attack["ci95"]]
