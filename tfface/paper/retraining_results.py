"""How the old head and the new do on the same test photographs: as they are, augmented, attacked; and what follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfface.metrics.intervals import Estimate, wilson
from tfface.paper.retraining import Retrained, RetrainingConfig, Start, attacked_photographs
from tfface.training.head import Head

Metrics = dict[str, Any]
SETS = ("clean", "augmented", "adversarial_old_head", "adversarial_new_head")
CLEAN_LIMIT = 0.005
"""By how much the clean error may rise and count as no regression."""
RIGHT_LIMIT = 0.95
"""The share of the old head's adversarial images that the new head must get right for them to count as learned."""


@dataclass(frozen=True, eq=False)
class Wrong:
    """What one head gets wrong.

    Attributes:
        sets: by test set, (S, E) bool, the test photographs at each budget; (S, 1) of those without an attack.
    """

    sets: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, head: Head, sets: Mapping[str, np.ndarray], labels: np.ndarray) -> "Wrong":
        """Asks a head.

        Args:
            head: the classifier.
            sets: embeddings (S, E, D) by name.
            labels: (S,) int, who is on each photograph.
        """
        return cls({name: head.logits(vectors).argmax(axis=-1) != labels[:, None] for name, vectors in sets.items()})

    def entry(self) -> Metrics:
        """The error rate on each set, all budgets together."""
        return {name: rate_entry(wrong) for name, wrong in self.sets.items()}

    def at(self, place: int) -> Metrics:
        """The error rates on the adversarial sets at one budget."""
        return {name: rate_entry(self.sets[name][:, [place]]) for name in SETS[2:]}


def pooled(successes: Sequence[int], trials: Sequence[int]) -> Estimate:
    """A rate over several sets that are made of the same photographs.

    They are no independent draws, so the interval takes them to err together: its bounds are the weighted means of
    the sets' Wilson bounds, which no dependence between them makes too narrow.

    Args:
        successes: in each set.
        trials: in each set; not all 0.
    """
    parts = [(wilson(won, of), of) for won, of in zip(successes, trials, strict=True) if of]
    total = sum(of for _, of in parts)
    return Estimate(
        sum(successes) / total,
        sum(part.low * of for part, of in parts) / total,
        sum(part.high * of for part, of in parts) / total,
    )


def rate_entry(wrong: np.ndarray) -> Metrics:
    """Images, errors and their rate with its 95% interval, of (S, E) bool."""
    errors = wrong.sum(axis=0).tolist()
    rate = pooled(errors, [len(wrong)] * len(errors))
    return {"images": wrong.size, "errors": int(wrong.sum()), "error_rate": rate.value, "ci95": rate.ci95}


def judge(plan: RetrainingConfig, start: Start, retrained: Retrained) -> tuple[Wrong, Wrong]:
    """What the old head and the new get wrong of the four sets, made of the test photographs alone."""
    test, ok = start.data.test, start.vectors.test_ok
    sets = {"clean": start.vectors.test[:, None], "augmented": start.copies.test[:, None]}
    for which, head in (("old", start.old), ("new", retrained.head)):
        label = f"attacking the test photographs through the {which} head"
        sets[f"adversarial_{which}_head"] = attacked_photographs(plan, start, head, test, label)
    sets = {name: vectors[ok] for name, vectors in sets.items()}
    labels = start.labels(test[ok])
    return Wrong.of(start.old, sets, labels), Wrong.of(retrained.head, sets, labels)


def entry(plan: RetrainingConfig, start: Start, retrained: Retrained, before: Wrong, after: Wrong) -> Metrics:
    """What a retraining found, as `metrics.json` holds it; without the verification of unseen people."""
    return {
        "judged_on": "validation photographs" if plan.validate else "test photographs",
        "before": before.entry(),
        "after": after.entry(),
        "attack": plan.attack,
        "epsilons": list(plan.epsilons),
        "per_epsilon": [
            {"epsilon": epsilon, "before": before.at(place), "after": after.at(place)}
            for place, epsilon in enumerate(plan.epsilons)
        ],
        "claims": claims(before, after),
        "people": _people(start),
        "mining_threshold": start.hardness.threshold,
        "train_images": _train_images(start, retrained),
        "test_images": int(start.vectors.test_ok.sum()),
        "failed_images": _failed(start),
        "adversarial_share": plan.adversarial_share,
        "rounds": plan.rounds if plan.adversarial_share else 0,
        "copies": plan.copies,
        "hidden": start.settings.hidden,
        "heads": {
            name: {"sha256": head.sha256, "settings": head.facts.get("settings")}
            for name, head in (("old", start.old), ("new", retrained.head))
        },
        "remarks": _remarks(plan, start),
    }


def claims(before: Wrong, after: Wrong) -> list[Metrics]:
    """The paper's three claims, each with what was measured and whether it holds."""
    return [_no_regression(before, after), _failures_right(before, after), _still_succeed(before, after)]


def _no_regression(before: Wrong, after: Wrong) -> Metrics:
    old, new = (wrong.entry()["clean"]["error_rate"] for wrong in (before, after))
    return {
        "claim": "no regression on clean photographs",
        "paper": "the accuracy on clean images stays",
        "ours": f"error {old:.2%} before, {new:.2%} after (it may rise by {100 * CLEAN_LIMIT:g} points)",
        # Rates of the same number of photographs: a rise of just the limit must not fail by rounding.
        "holds": bool(new - old <= CLEAN_LIMIT + 1e-9),
        "rise": new - old,
    }


def _failures_right(before: Wrong, after: Wrong) -> Metrics:
    name = "adversarial_old_head"
    failed, right = before.sets[name], ~after.sets[name]
    every = pooled(right.sum(axis=0).tolist(), [len(right)] * right.shape[1])
    ours = f"{every.value:.2%} ({_bounds(every)}) of {right.size:,} images made against the old head are right"
    mended = None
    if failed.any():
        mended = pooled((right & failed).sum(axis=0).tolist(), failed.sum(axis=0).tolist())
        ours += f"; of the {int(failed.sum()):,} that it got wrong {mended.value:.2%} ({_bounds(mended)})"
    return {
        "claim": "earlier failures are right now",
        "paper": "the new head gets the old adversarial images right",
        "ours": f"{ours}; {100 * RIGHT_LIMIT:g}% asked",
        "holds": bool(every.value >= RIGHT_LIMIT),
        "right": every.value,
        "right_ci95": every.ci95,
        "failed_before": int(failed.sum()),
        "mended": None if mended is None else mended.value,
        "mended_ci95": None if mended is None else mended.ci95,
    }


def _still_succeed(before: Wrong, after: Wrong) -> Metrics:
    old = before.entry()["adversarial_old_head"]
    new, clean = (after.entry()[name] for name in ("adversarial_new_head", "clean"))
    transferred = before.entry()["adversarial_new_head"]["error_rate"]
    return {
        "claim": "new attacks still succeed",
        "paper": "new adversarial images fool the new head",
        "ours": (
            f"error of the new head {new['error_rate']:.2%} on images made against it, {clean['error_rate']:.2%} on "
            f"clean ones; of the old head {old['error_rate']:.2%} on its own and {transferred:.2%} on the new head's"
        ),
        # The attack does what it is there for where it clearly adds errors.
        "holds": bool(new["ci95"][0] > clean["ci95"][1]),
        "error_rate": new["error_rate"],
        "error_rate_old": old["error_rate"],
        "error_rate_old_on_new": transferred,
    }


def _bounds(rate: Estimate) -> str:
    return f"{100 * rate.low:.2f} to {100 * rate.high:.2f}"


def _people(start: Start) -> list[Metrics]:
    counts = {
        name: np.bincount(start.labels(part), minlength=len(start.data.people)).tolist()
        for name, part in (
            ("train", start.data.train),
            ("test", start.data.test),
            ("copies_before", start.data.copies),
            ("copies_added", start.aimed),
        )
    }
    return [
        {
            "person": name,
            **{part: numbers[label] for part, numbers in counts.items()},
            "mined_errors": start.hardness.errors[name],
            "hard": name in start.hardness.hard,
        }
        for label, name in enumerate(start.data.people)
    ]


def _train_images(start: Start, retrained: Retrained) -> Metrics:
    return {
        "before": {"clean": retrained.clean, "augmented": int(start.vectors.copies_ok.sum()), "adversarial": 0},
        "after": {
            "clean": retrained.clean,
            "augmented": retrained.augmented,
            "adversarial": retrained.adversarial,
            "adversarial_made": retrained.made,
        },
    }


def _failed(start: Start) -> int:
    return int((~start.vectors.train_ok).sum() + (~start.vectors.test_ok).sum())


def _remarks(plan: RetrainingConfig, start: Start) -> list[str]:
    """What a reader must know to read the numbers rightly."""
    said = []
    if len(plan.epsilons) > 1:
        budgets = ", ".join(f"{epsilon:g}" for epsilon in plan.epsilons)
        said.append(
            f"the attacked sets hold each test photograph once at each epsilon of {budgets}; the interval over all of "
            "them takes a photograph's images as erring together"
        )
    if failed := _failed(start):
        said.append(f"{failed} photograph{'s' * (failed != 1)} could not be cropped: in no set")
    return said
