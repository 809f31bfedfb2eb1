"""Results of trials: entries of `metrics.json`, and a few photographs to look at.

Failures count: a subject that the model got wrong before any attack is counted apart and left out, an
attack that fails has an infinite distance, and rates and medians are over all attacked subjects.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfface.metrics.distances import from_cosine
from tfface.metrics.intervals import bootstrap_median, wilson
from tfface.report.attack_tables import Example, ExampleAnswer
from tfface.robustness.trial import Trial, TrialResults, TrialStore

Metrics = dict[str, Any]
BROKEN = 2.0
"""A defense is broken where an attack that does not know it needs so many times the epsilon of one that does."""


def trial_entry(trial: Trial, rows: TrialResults) -> Metrics:
    """Return a trial's entry: `results` by epsilon, or the smallest epsilon's median."""
    context = trial.context
    found = {
        "attack": trial.name,
        "attack_settings": trial.attack.record(),
        "norm": trial.attack.norm,
        "goal": trial.subjects.goal,
        "subjects": trial.subjects.name,
        "count": len(trial.subjects),
        "failed_crops": int((~rows.cropped).sum()),
        "judged": context.stored.name,
        **({"knowledge": context.knowledge} if context.knowledge else {}),
        **({"draws": context.draws} if context.averages else {}),
        "surrogate": context.surrogate.preset.name if context.surrogate else None,
        "surrogate_sha256": context.surrogate.sha256 if context.surrogate else None,
    }
    return found | (minimal_entry(trial, rows) if trial.minimal else {"results": rate_entries(trial, rows)})


def rate_entries(trial: Trial, rows: TrialResults) -> list[Metrics]:
    """Return the error rate at each epsilon, with Wilson's interval."""
    entries = []
    for place, epsilon in enumerate(trial.epsilons):
        attacked = int(rows.attacked.sum())
        rate = wilson(int(rows.success[rows.attacked, place].sum()), attacked) if attacked else None
        entries.append(
            {
                "epsilon": epsilon,
                **_units(trial, epsilon),
                "attacked": attacked,
                "already_wrong": int(rows.already_wrong.sum()),
                "error_rate": rate.value if rate else None,
                "ci95": rate.ci95 if rate else None,
            }
        )
    return entries


def minimal_entry(trial: Trial, rows: TrialResults) -> Metrics:
    """Return the median of the smallest epsilons, infinite ones among them; JSON writes infinity as null."""
    epsilons = rows.epsilon[rows.attacked, 0]
    found = bootstrap_median(epsilons, seed=trial.context.seed) if len(epsilons) else None
    median = found.value if found else math.nan
    return {
        "attacked": len(epsilons),
        "already_wrong": int(rows.already_wrong.sum()),
        "failed": int(np.isinf(epsilons).sum()),
        "median_epsilon": finite(median),
        **_units(trial, median, "median_"),
        "ci95": [finite(bound) for bound in found.ci95] if found else None,
    }


def finite(value: float) -> float | None:
    """Return a number as JSON holds it; None where it is infinite or none."""
    return float(value) if math.isfinite(value) else None


def _units(trial: Trial, epsilon: float, prefix: str = "") -> Metrics:
    """Return an L2 epsilon in the units that the literature uses."""
    if trial.attack.norm != "l2":
        return {}
    size = trial.context.embedder.preset.input_size
    return {f"{prefix}l2": finite(epsilon * math.sqrt(3 * size * size)), f"{prefix}rms255": finite(255 * epsilon)}


def pair_distances(trial: Trial, margins: np.ndarray) -> np.ndarray:
    """Return the distances of pairs in the preset's metric, from by how much the goal is reached.

    Args:
        trial: on pairs.
        margins: (N,) or (N, E).
    """
    limits = trial.subjects.limits
    assert limits is not None, "only pairs have distances"
    limits = limits if margins.ndim == 1 else limits[:, None]
    cosine = limits + margins if trial.subjects.goal == "dodging" else limits - margins
    return from_cosine(np.clip(cosine, 0, 2), trial.context.embedder.preset.metric)


def classified_entry(trial: Trial, rows: TrialResults, similarity: Any, results: Sequence[Metrics]) -> Metrics:
    """Return the head's facts, and add to each result what the similarity test says of photographs that fool it.

    Args:
        trial: on a head's test photographs.
        rows: its results.
        similarity: the `Similarity` to training photographs.
        results: entries of the trial, one an epsilon; each gets `similarity`.
    """
    head, subjects = trial.context.head, trial.subjects.first
    assert head is not None and rows.vectors is not None, "this goal has a head and stores embeddings"
    for place, result in enumerate(results):
        chosen = rows.attacked & rows.success[:, place]
        result["similarity"] = similarity.entry(subjects[chosen], rows.vectors[chosen, place])
    attacked = subjects[rows.attacked]
    cropped, wrong = int(rows.cropped.sum()), int(rows.already_wrong.sum())
    rate = wilson(wrong, cropped) if cropped else None
    return {
        "head": {
            "people": list(head.people),
            "sha256": head.sha256,
            "settings": head.facts.get("settings"),
            "train": len(similarity.data.train),
            "copies": len(similarity.data.copies),
            "test": len(similarity.data.test),
        },
        "clean": {
            "error_rate": rate.value if rate else None,
            "ci95": rate.ci95 if rate else None,
            "similarity": similarity.entry(attacked, similarity.clean_vectors(attacked)),
        },
    }


def examples(trial: Trial, rows: TrialResults, similarity: Any = None) -> list[Example]:
    """Return the examples that a trial stored, those that succeed first: the paper's Figure 1.

    Args:
        trial: the attack.
        rows: its results.
        similarity: for the goal `classify`, the `Similarity` to training photographs.
    """
    stored = next(TrialStore(trial).tables(["noise"]))["noise"].to_pylist() if len(trial.subjects) else []
    numbers = np.array([number for number, changes in enumerate(stored) if changes], int)
    numbers = numbers[np.argsort(~rows.success[numbers, -1], kind="stable")]
    if not len(numbers):
        return []
    subjects, dataset = trial.subjects, trial.context.dataset
    if subjects.second is None:
        assert similarity is not None, "this goal compares with training photographs"
        compared = np.array([similarity.typical(index) for index in subjects.first[numbers]])
    else:
        compared = subjects.second[numbers]
    clean, _ = trial.context.crops(subjects.first[numbers])
    references, _ = trial.context.crops(compared)
    found = []
    for place, number in enumerate(numbers.tolist()):
        noise = np.stack([np.frombuffer(change, np.float16) for change in stored[number]]).astype(np.float32)
        limit, before, *after = (
            _pair_answers(trial, rows, number)
            if similarity is None or subjects.second is not None
            else _head_answers(trial, rows, number, int(compared[place]), similarity)
        )
        found.append(
            Example(
                dataset.identities[subjects.first[number]],
                dataset.identities[compared[place]],
                clean[place],
                references[place],
                tuple(rows.epsilon[number].tolist()),
                noise.reshape(-1, *clean[place].shape),
                limit,
                before,
                tuple(after),
            )
        )
    return found


def _pair_answers(trial: Trial, rows: TrialResults, number: int) -> tuple:
    """Return the limit, and the answers before and at each epsilon.

    The verdict is the one that was counted: a distance at the threshold itself may round to either side.
    """
    limits, genuine = trial.subjects.limits, trial.subjects.goal == "dodging"
    assert limits is not None, "pairs have thresholds"
    after = pair_distances(trial, rows.margin)[number].tolist()
    answers = [
        ExampleAnswer(distance, genuine != success)
        for distance, success in zip(after, rows.success[number].tolist(), strict=True)
    ]
    limit = float(from_cosine(float(limits[number]), trial.context.embedder.preset.metric))
    return limit, ExampleAnswer(float(pair_distances(trial, rows.clean)[number]), genuine), *answers


def _head_answers(trial: Trial, rows: TrialResults, number: int, compared: int, similarity: Any) -> tuple:
    """Return the same for a head: the person it sees, and the distance to a training photograph."""
    head = trial.context.head
    assert head is not None and rows.vectors is not None, "this goal has a head and keeps embeddings"
    vectors = [*similarity.clean_vectors(trial.subjects.first[[number]]), *rows.vectors[number]]
    answers = []
    for vector in vectors:
        distance = similarity.distance(vector, compared)
        name = head.people[int(np.argmax(head.logits(vector[None])[0]))]
        answers.append(
            ExampleAnswer(float(from_cosine(distance, similarity.metric)), distance <= similarity.limit, name)
        )
    return similarity.threshold, *answers


def verdict(entry: Metrics, undefended: Metrics) -> Metrics:
    """Judge a row: `undefended`, `broken`, `no gain` or `gains`, why, and by how much.

    Broken is a defense that only looks good to an attack that does not know it, or fails a gradient check: then even
    the white box's numbers overstate it. A gain is stated where the interval of a white box's median lies above
    that of the undefended model's, for one goal at least, and below it for none.

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
    """Group a row's cells by (goal, attack, norm), then by the attacker's knowledge."""
    groups: dict[tuple[str, str, str], dict[str, Metrics]] = {}
    for attack in entry["attacks"]:
        groups.setdefault((attack["goal"], attack["attack"], attack["norm"]), {})[attack["knowledge"]] = attack
    return groups


def _doubts(white: Metrics, other: Metrics, knowledge: str) -> Iterator[str]:
    """Yield what an attack that knows less says against the white box's number."""
    if other is white or not other["attacked"] or not white["attacked"]:
        return
    ratio = _median(other) / _median(white)  # not a number where both are infinite: that tells nothing
    if knowledge == "naive" and ratio >= BROKEN:
        times = f"{ratio:.1f}" if math.isfinite(ratio) else "any number of"
        yield f"unaware of the defense, it needs {times} times the epsilon"
    if _bounds(other)[1] < _bounds(white)[0]:
        yield f"the white box needs more than the {knowledge} attack"


def _median(attack: Metrics) -> float:
    return math.inf if attack["median_epsilon"] is None else float(attack["median_epsilon"])


def _bounds(attack: Metrics) -> list[float]:
    return [math.inf if bound is None else float(bound) for bound in attack["ci95"]]
