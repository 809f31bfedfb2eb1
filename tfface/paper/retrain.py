"""Retrain a classifier head on clean, augmented and adversarial images, and judge it beside the old one.

The paper's defense: *Facial Recognition Adversarial Methods and Defenses*. Both heads are judged on the same test
photographs: as they are, augmented, and attacked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.evaluation.inputs import Embedder, FaceDataset, as_embedder, load_dataset, recipe
from tfface.metrics.intervals import Estimate, wilson
from tfface.paper import open_set
from tfface.paper.retraining import NewHead, RetrainingConfig, Start, attacked_photographs, prepare, train_rounds
from tfface.report.retraining import plot_retraining, retraining_tables
from tfface.robustness.trial import Context, ImageFormat
from tfface.training.head import Head
from tfface.utils.public import Clock, Result, Table, configured, run_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics = dict[str, Any]
SETS = ("clean", "augmented", "adversarial_old_head", "adversarial_new_head")
CLEAN_LIMIT = 0.005
"""Largest rise of the clean error that counts as no regression."""
RIGHT_LIMIT = 0.95
"""Least share of the old head's adversarial images that the new head must get right."""


@dataclass(frozen=True, eq=False)
class Retraining(Result):
    """Result of a retraining.

    Attributes:
        metrics: JSON-able, as `metrics.json` holds it.
        old_head: the head before.
        new_head: the head after.
    """

    metrics: Metrics
    old_head: Head
    new_head: Head

    @property
    def claims(self) -> list[Metrics]:
        """The paper's claims, each with what was measured and whether it holds."""
        return list(self.metrics["claims"])

    def to_dict(self) -> Metrics:
        return self.metrics

    def tables(self) -> list[Table]:
        return retraining_tables(self.metrics)

    def plot(self) -> "Figure":
        """Draw the error rates of both heads on the four test sets."""
        return plot_retraining(self.metrics)

    def save_files(self, folder: Path) -> list[str]:
        from tfface.utils.public import save_figure

        save_figure(self.plot(), folder / "retraining.png")
        self.new_head.save(folder / "head.npz")
        self.old_head.save(folder / "old_head.npz")
        return ["retraining.png", "head.npz", "old_head.npz"]


@configured(RetrainingConfig)
def retrain(
    embedder: str | Embedder = "facenet", dataset: str | Path | FaceDataset = "lfw", *, config: RetrainingConfig
) -> Retraining:
    """Retrain a classifier head on clean, augmented and adversarial images; the base stays frozen.

    The old head and the new are judged on four sets made of the same test photographs, none of which trained either
    in any form: as they are, augmented, and attacked through the old head and the new. A photograph that a head gets
    wrong without an attack stays in all sets.

    Args:
        embedder: the frozen base, a model or its name.
        dataset: a data set, its name, or a folder with one subfolder per person.

    Returns:
        Error rates of both heads, the paper's claims, and the heads.

    Raises:
        UserError: a value is out of range, the data set has too few people, or the old head does not fit.

    Example:
        >>> import tfface
        >>> result = tfface.retrain("facenet", "lfw", epsilons=(0.01,))  # doctest: +SKIP
        >>> [claim["holds"] for claim in result.claims]  # doctest: +SKIP
        [True, True, True, False]
    """
    clock = Clock()
    model = as_embedder(embedder, offline=config.offline)
    faces = load_dataset(dataset, manual_dir=config.manual_dir, offline=config.offline)
    chosen = recipe(config.recipe or faces.own_recipe or model.preset.recipe)
    start = prepare(config, Context(faces, model, chosen, ImageFormat(), config.seed))
    new = train_rounds(config, start)
    before, after = judge(config, start, new)
    found = entry(config, start, new, before, after)
    heads = {"old_head": start.old, "new_head": new.head}
    strangers = open_set.strangers(faces, start.data.people)
    verification = open_set.verify(faces, model, chosen, heads, strangers, seed=config.seed)
    found["claims"].append(open_set.transfer_claim(verification))
    record = run_record("retrain", model, chosen.name, faces, config.seed, clock)
    return Retraining({**record, **found, "verification": verification}, start.old, new.head)


@dataclass(frozen=True, eq=False)
class Wrong:
    """Errors of one head.

    Attributes:
        sets: test set to (S, E) bool, errors on the test photographs at each budget; (S, 1) without an attack.
    """

    sets: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, head: Head, sets: Mapping[str, np.ndarray], labels: np.ndarray) -> "Wrong":
        """Find the errors of a head.

        Args:
            head: the classifier.
            sets: embeddings (S, E, D) by name.
            labels: (S,) int, the person on each photograph.
        """
        return cls({name: head.logits(vectors).argmax(axis=-1) != labels[:, None] for name, vectors in sets.items()})

    def entry(self) -> Metrics:
        """Return the error rate on each set, all budgets together."""
        return {name: rate_entry(wrong) for name, wrong in self.sets.items()}

    def at(self, place: int) -> Metrics:
        """Return the error rates on the adversarial sets at one budget."""
        return {name: rate_entry(self.sets[name][:, [place]]) for name in SETS[2:]}


def pooled(successes: Sequence[int], trials: Sequence[int]) -> Estimate:
    """Estimate a rate over several sets that are made of the same photographs.

    The sets are not independent: the bounds are the weighted means of the sets' Wilson bounds, which no dependence
    between them makes too narrow.

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
    """Return images, errors and their rate with its 95% interval, of (S, E) bool."""
    errors = wrong.sum(axis=0).tolist()
    rate = pooled(errors, [len(wrong)] * len(errors))
    return {"images": wrong.size, "errors": int(wrong.sum()), "error_rate": rate.value, "ci95": rate.ci95}


def judge(config: RetrainingConfig, start: Start, new: NewHead) -> tuple[Wrong, Wrong]:
    """Find the errors of the old head and the new on the four sets, made of the test photographs alone."""
    test, ok = start.data.test, start.vectors.test_ok
    sets = {"clean": start.vectors.test[:, None], "augmented": start.copies.test[:, None]}
    for which, head in (("old", start.old), ("new", new.head)):
        label = f"attacking the test photographs through the {which} head"
        sets[f"adversarial_{which}_head"] = attacked_photographs(config, start, head, test, label)
    sets = {name: vectors[ok] for name, vectors in sets.items()}
    labels = start.labels(test[ok])
    return Wrong.of(start.old, sets, labels), Wrong.of(new.head, sets, labels)


def entry(config: RetrainingConfig, start: Start, new: NewHead, before: Wrong, after: Wrong) -> Metrics:
    """Return the results for `metrics.json`, without the verification of strangers."""
    return {
        "judged_on": "validation photographs" if config.validate else "test photographs",
        "before": before.entry(),
        "after": after.entry(),
        "attack": config.attack,
        "epsilons": list(config.epsilons),
        "per_epsilon": [
            {"epsilon": epsilon, "before": before.at(place), "after": after.at(place)}
            for place, epsilon in enumerate(config.epsilons)
        ],
        "claims": claims(before, after),
        "people": _people(start),
        "mining_threshold": start.hardness.threshold,
        "train_images": _train_images(start, new),
        "test_images": int(start.vectors.test_ok.sum()),
        "failed_images": _failed(start),
        "adversarial_share": config.adversarial_share,
        "rounds": config.rounds if config.adversarial_share else 0,
        "copies": config.copies,
        "hidden": start.settings.hidden,
        "heads": {
            name: {"sha256": head.sha256, "settings": head.facts.get("settings")}
            for name, head in (("old", start.old), ("new", new.head))
        },
        "remarks": _remarks(config, start),
    }


def claims(before: Wrong, after: Wrong) -> list[Metrics]:
    """Return the paper's three claims, each with what was measured and whether it holds."""
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
    corrected = None
    if failed.any():
        corrected = pooled((right & failed).sum(axis=0).tolist(), failed.sum(axis=0).tolist())
        ours += f"; of the {int(failed.sum()):,} that it got wrong {corrected.value:.2%} ({_bounds(corrected)})"
    return {
        "claim": "earlier failures are right now",
        "paper": "the new head gets the old adversarial images right",
        "ours": f"{ours}; {100 * RIGHT_LIMIT:g}% asked",
        "holds": bool(every.value >= RIGHT_LIMIT),
        "right": every.value,
        "right_ci95": every.ci95,
        "failed_before": int(failed.sum()),
        "mended": None if corrected is None else corrected.value,
        "mended_ci95": None if corrected is None else corrected.ci95,
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
        # An attack succeeds where it clearly adds errors.
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


def _train_images(start: Start, new: NewHead) -> Metrics:
    return {
        "before": {"clean": new.clean, "augmented": int(start.vectors.copies_ok.sum()), "adversarial": 0},
        "after": {
            "clean": new.clean,
            "augmented": new.augmented,
            "adversarial": new.adversarial,
            "adversarial_made": new.made,
        },
    }


def _failed(start: Start) -> int:
    return int((~start.vectors.train_ok).sum() + (~start.vectors.test_ok).sum())


def _remarks(config: RetrainingConfig, start: Start) -> list[str]:
    """Return remarks on how to read the numbers."""
    remarks = []
    if len(config.epsilons) > 1:
        budgets = ", ".join(f"{epsilon:g}" for epsilon in config.epsilons)
        remarks.append(
            f"the attacked sets hold each test photograph once at each epsilon of {budgets}; the interval over all of "
            "them takes a photograph's images as erring together"
        )
    if failed := _failed(start):
        remarks.append(f"{failed} photograph{'s' * (failed != 1)} could not be cropped: in no set")
    return remarks
