"""A campaign: one model, attacked in every way that was asked for."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.data.pairs import Pairs, read_pairs_file
from tfface.defenses._stack import DRAWS
from tfface.distributed.executor import LOCAL, Executor
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings, embed_dataset
from tfface.metrics.intervals import wilson
from tfface.paper.table2 import Similarity, claim, saved_head, subjects_of, trained_head
from tfface.preprocessing.images import Recipe
from tfface.robustness import thresholds
from tfface.robustness.context import Context, Judging
from tfface.robustness.pairs import ALL_PAIRS, GENUINE_GOAL, choose_pairs
from tfface.robustness.results import Metrics, trial_entry
from tfface.robustness.rows import TrialResults
from tfface.robustness.runner import run_trial
from tfface.robustness.thresholds import Threshold
from tfface.robustness.trial import Subjects, Trial
from tfface.training.head import HeadSettings
from tfface.training.head_data import PHOTOGRAPHS, HeadData, embed_head_data, head_data
from tfface.utils import registry

if TYPE_CHECKING:
    from tfface.attacks._attack import Attack
    from tfface.models._embedder import Embedder

GOALS = ("classify", *GENUINE_GOAL)
DEFAULT_COUNT = 100


@dataclass(frozen=True, eq=False)
class AttackConfig:
    """What is asked for, of every model alike.

    Attributes:
        attacks: (name, attack), each with its norm.
        goals: of `GOALS`.
        epsilons: budgets; none: the smallest that succeeds is searched for.
        protocol: where pairs are drawn from.
        pairs_file: a list of pairs of one's own instead.
        count: how many pairs, or test photographs; None: 100 pairs, all test photographs.
        threshold: given by hand, in the preset's metric.
        far: the false accept rate that the threshold is to have, instead.
        fold_thresholds: each fold's threshold is the best on the others, instead.
        judging: how adversarial images reach the judge.
        pictures: keep every adversarial image.
        head_file: a saved head for the goal `classify`; one is trained if None.
        photographs: of each of its people, training and test, at most.
        head: how it is trained.
        seed: of everything drawn at random.
        draws: of a model that draws at random: those whose mean a gradient is.
        workers: who embeds and attacks.
    """

    attacks: "Sequence[tuple[str, Attack]]"
    goals: Sequence[str]
    epsilons: tuple[float, ...] = ()
    protocol: str = ALL_PAIRS
    pairs_file: Path | None = None
    count: int | None = None
    threshold: float | None = None
    far: float | None = None
    fold_thresholds: bool = False
    judging: Judging = field(default_factory=Judging)
    pictures: bool = False
    head_file: Path | None = None
    photographs: int = PHOTOGRAPHS
    head: HeadSettings = field(default_factory=HeadSettings)
    seed: int = 0
    draws: int = DRAWS
    executor: Executor = LOCAL


@dataclass(frozen=True, eq=False)
class Experiment:
    """The trials of one model, ready to run.

    Attributes:
        setting: the model and the data.
        threshold: up to which a pair matches.
        trials: in the order of the table.
        similarity: of the goal `classify`, else None.
        workers: who attacks.
    """

    context: Context
    threshold: Threshold
    trials: list[Trial]
    similarity: Similarity | None
    executor: Executor = LOCAL

    def run(self) -> Iterator[tuple[Trial, TrialResults, Metrics]]:
        """Runs the trials: each with what became of its subjects, and its entry of `metrics.json`."""
        for trial in self.trials:
            rows = run_trial(trial, executor=self.executor)
            entry = {**self.threshold.record(), **trial_entry(trial, rows)}
            if trial.subjects.goal == "classify":
                entry |= self._classified(trial, rows, entry)
            yield trial, rows, entry

    def _classified(self, trial: Trial, rows: TrialResults, entry: Metrics) -> Metrics:
        """What the goal `classify` adds: the head, and whether what fools it still passes the similarity test."""
        head, similarity = self.context.head, self.similarity
        assert head is not None and similarity is not None, "this goal has both"
        clean, fooled = claim(rows, trial.subjects, similarity)
        results = entry.get("results", [entry])
        for result, found in zip(results, fooled, strict=True):
            result["similarity"] = found
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
                "similarity": clean,
            },
        }


def prepare(
    plan: AttackConfig,
    dataset: FaceDataset,
    embedder: "Embedder",
    recipe: Recipe,
    surrogate: "Embedder | None" = None,
) -> Experiment:
    """Chooses pairs and thresholds and trains heads, before anything is attacked.

    Raises:
        UserError: a goal has nothing to attack, a threshold cannot be had, or a head does not fit.
    """
    listed = None if plan.pairs_file is None else read_pairs_file(plan.pairs_file, dataset)
    pairs = {
        goal: choose_pairs(
            dataset,
            goal,
            protocol=plan.protocol,
            listed=listed,
            count=plan.count or DEFAULT_COUNT,
            seed=plan.seed,
        )
        for goal in plan.goals
        if goal in GENUINE_GOAL
    }
    heads: dict[str, Any] = {}
    data: HeadData | None = None
    if "classify" in plan.goals:
        heads, data, vectors = _heads(plan, dataset, embedder, recipe, surrogate)
    embeddings = functools.cache(lambda: embed_dataset(dataset, embedder, recipe, executor=plan.executor))
    attacked = [np.concatenate([found.first, found.second]) for found in pairs.values()]
    attacked += [np.concatenate([data.train, data.test])] if data else []
    threshold = _threshold(plan, listed, dataset, embedder, np.concatenate(attacked), embeddings)
    shared = {"surrogate": surrogate, "draws": plan.draws, **heads}
    context = Context(dataset, embedder, recipe, plan.judging, plan.seed, **shared)
    similarity = Similarity(dataset, data, vectors, threshold) if data else None
    trials = []
    for goal in plan.goals:
        if goal == "classify":
            assert data is not None, "made above"
            subjects = subjects_of(dataset, data, plan.count, plan.seed)
        else:
            subjects = Subjects.of_pairs(goal, pairs[goal], threshold)
        trials += [
            Trial(context, subjects, name, attack, plan.epsilons, plan.pictures) for name, attack in plan.attacks
        ]
    return Experiment(context, threshold, trials, similarity, plan.executor)


def check_goals(plan: AttackConfig) -> None:
    """Refuses what cannot be asked for together.

    Raises:
        UserError: an unknown goal, or options of one goal with another.
    """
    for goal in plan.goals:
        if goal not in GOALS:
            raise registry.unknown("goal", goal, list(GOALS))
    chosen = [plan.threshold is not None, plan.far is not None, plan.fold_thresholds]
    if sum(chosen) > 1:
        raise UserError("--threshold, --far and --fold-thresholds each choose the threshold: give one of them")
    if "classify" in plan.goals and plan.fold_thresholds:
        raise UserError("--fold-thresholds is of pairs in folds, and --goal classify has none: leave one out")
    if list(plan.goals) == ["classify"] and (plan.pairs_file is not None or plan.protocol != ALL_PAIRS):
        raise UserError(
            "--goal classify attacks a head's test photographs, not pairs: leave out --pairs and --protocol"
        )
    if plan.head_file is not None and "classify" not in plan.goals:
        raise UserError("--head is of --goal classify: leave it out, or ask for that goal")


def _heads(
    plan: AttackConfig, dataset: FaceDataset, embedder: "Embedder", recipe: Recipe, surrogate: "Embedder | None"
) -> tuple[dict[str, Any], HeadData, Any]:
    """The heads of a setting, the data that they were trained on, and its embeddings by the attacked model."""
    if plan.head_file is not None:
        head, data = saved_head(plan.head_file, dataset, embedder, recipe)
        vectors = embed_head_data(dataset, embedder, recipe, data)
    else:
        data = head_data(dataset, photographs=plan.photographs, seed=plan.seed)
        head, vectors = trained_head(dataset, embedder, recipe, data, plan.head)
    heads: dict[str, Any] = {"head": head}
    if surrogate is not None:
        heads["surrogate_head"] = trained_head(dataset, surrogate, recipe, data, plan.head)[0]
    return heads, data, vectors


def _threshold(
    plan: AttackConfig,
    listed: Pairs | None,
    dataset: FaceDataset,
    embedder: "Embedder",
    attacked: np.ndarray,
    embeddings: Callable[[], Embeddings],
) -> Threshold:
    preset = embedder.preset
    if plan.far is not None:
        return thresholds.at_far(
            preset, plan.far, attacked, dataset, embeddings, seed=plan.seed, executor=plan.executor
        )
    if plan.fold_thresholds:
        if listed is None and plan.protocol == ALL_PAIRS:
            raise UserError("--fold-thresholds needs pairs in folds: give --protocol view2, or --pairs with folds")
        return thresholds.by_fold(preset, listed or dataset.pairs(plan.protocol), embeddings)
    return thresholds.fixed(preset, plan.threshold, dataset, embeddings, seed=plan.seed)
