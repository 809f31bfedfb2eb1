"""An attack experiment: one model, attacked in several ways."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.distributed.executor import LOCAL, Executor
from tfface.errors import UserError
from tfface.robustness import pairs as attacked_pairs
from tfface.robustness.classification import HeadConfig, Similarity
from tfface.robustness.pairs import ALL_PAIRS, GENUINE_GOAL, Threshold, choose_pairs, listed_pairs
from tfface.robustness.results import Metrics, classified_entry, trial_entry
from tfface.robustness.run import run_trial
from tfface.robustness.trial import DRAWS, Context, ImageFormat, Subjects, Trial, TrialResults
from tfface.utils import registry

if TYPE_CHECKING:
    from tfface.attacks._attack import Attack

logger = logging.getLogger(__name__)

GOALS = ("classify", *GENUINE_GOAL)
DEFAULT_COUNT = 100


@dataclass(frozen=True, eq=False)
class ExperimentConfig:
    """Configuration of an attack experiment, the same for every model.

    Attributes:
        attacks: (name, attack), each with its norm.
        goals: of `GOALS`.
        epsilons: budgets; none: the smallest that succeeds is searched for.
        protocol: source of the pairs.
        pairs_file: a pairs file instead.
        count: number of pairs, or of test photographs; None: 100 pairs, all test photographs.
        threshold: given by hand, in the preset's metric.
        far: false accept rate that the threshold is to have, instead.
        measured: measure that threshold here, even where the preset has one calibrated at the rate.
        fold_thresholds: each fold's threshold is the best on the others, instead.
        stored: format of adversarial images when they are judged.
        pictures: store every adversarial image.
        head: of the goal `classify`.
        seed: random seed.
        draws: draws of a random model whose mean a gradient is.
        executor: of embedding and attacks.
    """

    attacks: "Sequence[tuple[str, Attack]]"
    goals: Sequence[str]
    epsilons: tuple[float, ...] = ()
    protocol: str = ALL_PAIRS
    pairs_file: str | Path | None = None
    count: int | None = None
    threshold: float | None = None
    far: float | None = None
    measured: bool = False
    fold_thresholds: bool = False
    stored: ImageFormat = field(default_factory=ImageFormat)
    pictures: bool = False
    head: HeadConfig = field(default_factory=HeadConfig)
    seed: int = 0
    draws: int = DRAWS
    executor: Executor = LOCAL


@dataclass(frozen=True, eq=False)
class Experiment:
    """Trials of one model, ready to run.

    Attributes:
        context: the model and the data.
        threshold: up to which a pair matches.
        trials: in the order of the table.
        similarity: of the goal `classify`, else None.
        executor: of the attacks.
    """

    context: Context
    threshold: Threshold
    trials: list[Trial]
    similarity: Similarity | None
    executor: Executor = LOCAL

    def run(self) -> Iterator[tuple[Trial, TrialResults, Metrics]]:
        """Run the trials; yield each with its results and its entry of `metrics.json`."""
        for trial in self.trials:
            rows = run_trial(trial, executor=self.executor)
            entry = {**self.threshold.record(), **trial_entry(trial, rows)}
            if trial.subjects.goal == "classify":
                entry |= classified_entry(trial, rows, self.similarity, entry.get("results", [entry]))
            yield trial, rows, entry


def prepare(config: ExperimentConfig, context: Context) -> Experiment:
    """Choose pairs and thresholds and train heads, before anything is attacked.

    Args:
        config: attacks, goals, pairs and threshold.
        context: the model, its surrogate and the data set; the configuration's format, seed and draws are set in it.

    Raises:
        UserError: a goal has nothing to attack, a threshold cannot be had, or a head does not fit.
    """
    context = dataclasses.replace(context, stored=config.stored, seed=config.seed, draws=config.draws)
    for _, attack in config.attacks:
        context.check_attack(attack)
    dataset, seed = context.dataset, config.seed
    # A protocol's list is read by each draw: only a file is read here.
    listed = None if config.pairs_file is None else listed_pairs(dataset, config.protocol, config.pairs_file)
    count = config.count or DEFAULT_COUNT
    pairs = {
        goal: choose_pairs(dataset, goal, protocol=config.protocol, listed=listed, count=count, seed=seed)
        for goal in config.goals
        if goal in GENUINE_GOAL
    }
    attacked = [np.concatenate([found.first, found.second]) for found in pairs.values()]
    subjects, similar = {}, None
    if "classify" in config.goals:
        head, other, data, vectors = config.head.heads(
            dataset, context.embedder, context.recipe, context.surrogate, seed
        )
        context = dataclasses.replace(context, head=head, surrogate_head=other)
        subjects["classify"] = head_subjects(dataset, data, config.count, seed)
        attacked.append(np.concatenate([data.train, data.test]))
        similar = functools.partial(Similarity, dataset, data, vectors)
    threshold = _threshold(config, context, listed, np.concatenate(attacked))
    for goal, found in pairs.items():
        subjects[goal] = Subjects.of_pairs(goal, found, threshold.cosine(found.fold))
    trials = [
        Trial(context, subjects[goal], name, attack, config.epsilons, config.pictures)
        for goal in config.goals
        for name, attack in config.attacks
    ]
    similarity = similar(threshold.value, threshold.metric) if similar else None
    return Experiment(context, threshold, trials, similarity, config.executor)


def check_goals(config: ExperimentConfig) -> None:
    """Refuse goals and thresholds that exclude each other.

    Raises:
        UserError: an unknown goal, or parameters of one goal with another.
    """
    for goal in config.goals:
        if goal not in GOALS:
            raise registry.unknown("goal", goal, list(GOALS))
    chosen = [config.threshold is not None, config.far is not None, config.fold_thresholds]
    if sum(chosen) > 1:
        raise UserError("`threshold`, `far` and `fold_thresholds` each choose the threshold: give one of them")
    if "classify" in config.goals and config.fold_thresholds:
        raise UserError("`fold_thresholds` is for pairs in folds, and `goal` classify has none: leave one out")
    if list(config.goals) == ["classify"] and (config.pairs_file is not None or config.protocol != ALL_PAIRS):
        raise UserError(
            "`goal` classify attacks a head's test photographs, not pairs: leave out `pairs` and `protocol`"
        )
    if config.head.file is not None and "classify" not in config.goals:
        raise UserError("`head` is for `goal` classify: leave it out, or give that goal", parameter="head")


_FIELDS = {"step_size": "alpha"}
"""Fields of attacks whose parameter has another name."""


def attack_grid(
    attacks: "Sequence[str | Attack]", norms: Sequence[str], settings: Mapping[str, Any]
) -> "list[tuple[str, Attack]]":
    """Make each attack in each norm; of several, one that does not know a norm is logged and left out there.

    Args:
        attacks: names, or attacks.
        norms: `linf`, `l2`; none for each attack's own.
        settings: hyperparameters by their parameter, set in each attack that has them.

    Raises:
        UserError: no such attack or norm, a hyperparameter that none of the attacks has, or one out of range.
    """
    from tfface.attacks._norms import checked

    for norm in norms:
        checked(norm)
    makers = dict(_maker(one) for one in attacks)
    fields = {
        name: {entry.name for entry in dataclasses.fields(kind) if entry.init} for name, (kind, _) in makers.items()
    }
    for parameter in settings:
        if not any(_FIELDS.get(parameter, parameter) in known for known in fields.values()):
            raise UserError(f"{', '.join(makers)} takes no `{parameter}`: {_takers(parameter)}", parameter=parameter)
    found = []
    for name, (kind, make) in makers.items():
        named = {_FIELDS.get(parameter, parameter): value for parameter, value in settings.items()}
        own = {key: value for key, value in named.items() if key in fields[name]}
        for norm in dict.fromkeys(norms):
            if norm not in kind.norms and len(makers) > 1:
                logger.warning(f"{name} knows no norm {norm}: left out there")
            else:
                found.append((name, make(norm=norm, **own)))
        if not norms:
            found.append((name, make(**own)))
    if not found:
        raise UserError(
            f"none of {', '.join(makers)} knows the norm {', '.join(norms)}: choose another", parameter="norm"
        )
    return found


def _maker(attack: "str | Attack") -> "tuple[str, tuple[type[Attack], Callable[..., Attack]]]":
    """Return an attack's name, its class, and a function that makes it from hyperparameters."""
    if isinstance(attack, str):
        kind = registry.load("attacks", attack).ATTACK
        return attack, (kind, kind)
    kind = type(attack)
    return kind.__module__.rpartition(".")[2], (kind, functools.partial(dataclasses.replace, attack))


def _takers(parameter: str) -> str:
    field_name = _FIELDS.get(parameter, parameter)
    takers = [
        name
        for name in registry.names("attacks")
        if field_name
        in {entry.name for entry in dataclasses.fields(registry.load("attacks", name).ATTACK) if entry.init}
    ]
    return f"`{parameter}` is of {', '.join(takers)}"


def head_subjects(dataset: Any, data: Any, count: int | None, seed: int) -> Subjects:
    """Return the test photographs of a head, or so many of them, in a seeded order that mixes the people."""
    test = np.random.default_rng(seed).permutation(data.test)[:count]
    name = f"test photographs of {len(data.people)} people"
    return Subjects("classify", name, test, labels=data.labels(dataset, test))


def _threshold(config: ExperimentConfig, context: Context, listed: Any, attacked: np.ndarray) -> Threshold:
    executor = config.executor
    if config.far is not None and (config.measured or not _is_calibrated(context, config.far)):
        return attacked_pairs.at_far(context, config.far, attacked, executor=executor)
    if not config.fold_thresholds:
        return attacked_pairs.fixed(context, config.threshold, config.far, executor=executor)
    listed = listed or listed_pairs(context.dataset, config.protocol, None)
    if listed is None:
        raise UserError("`fold_thresholds` needs pairs in folds: give `protocol` view2, or `pairs` with folds")
    return attacked_pairs.by_fold(context, listed, executor=executor)


def _is_calibrated(context: Context, far: float) -> bool:
    """Return True where the model's record has a threshold at a FAR; a defense in front of it moves distances."""
    rows = () if context.embedder.defense else context.embedder.preset.thresholds
    return any(row.is_at(far) for row in rows)
