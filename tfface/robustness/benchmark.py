"""Benchmark defenses: a model behind each, under attackers who know more or less of it.

Every cell (a defense, a goal, an attack, the attacker's knowledge) is cached as soon as it is made.
"""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.evaluation.scoring import check_protocol, evaluate_embeddings
from tfface.report.page_runs import read_runs
from tfface.report.robustness_tables import benchmark_tables
from tfface.robustness.detection import DetectionConfig, detect
from tfface.robustness.experiment import (
    ALL_PAIRS,
    GENUINE_GOAL,
    Experiment,
    ExperimentConfig,
    attack_grid,
    prepare,
)
from tfface.robustness.results import verdict
from tfface.robustness.run import RESTARTS, STEPS, check_trial
from tfface.robustness.trial import DRAWS, Context, Model, Source, Trial, load_contexts
from tfface.utils.cache import cached
from tfface.utils.public import (
    Clock,
    Result,
    Table,
    UserError,
    as_list,
    configured,
    median_milliseconds,
    one_or_many,
    run_record,
    save_figure,
    suffixes,
    user_path,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tfface.attacks._attack import Attack

logger = logging.getLogger(__name__)

Metrics = dict[str, Any]
_FORMAT = 1
_SETTINGS = ("steps", "restarts", "queries")
_NONE = "none"


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Configuration of a robustness benchmark.

    Attributes:
        protocol: of accuracy, thresholds and attacked pairs: `view2` or `view1` of LFW, or `all-pairs`.
        defense: one row each, as `jpeg:quality=75`; `+` joins those one behind the other. The undefended model is
            always the first row.
        attack: `fgsm`, `bim`, `pgd`, `mim`, `square`, or an attack of `tfface.attacks`; one or several.
        goal: `dodging`, `impersonation`, or both.
        norm: `linf` or `l2`, one or several; each attack's own by default.
        steps: steps of iterative attacks.
        restarts: random starts (pgd).
        queries: answers of the model for an image (square).
        draws: draws of a random defense whose mean a gradient is; 10 by default.
        count: pairs attacked for a goal.
        far: each row's threshold is that of this false accept rate, measured behind its defense on all pairs of people
            in no attacked pair; by default the best one on other folds or people.
        surrogate: another model, for attacks that transfer from it.
        check: pairs of a goal for the gradient checks; 0 for none.
        check_steps: steps of PGD in these checks.
        detect: try detection by squeezed views.
        epsilon: budget of the detected attacks.
        certified: output folders of `certify`: fill the row of their model and noise.
        recipe: crop recipe; the data set's own, or the preset's, by default.
        manual_dir: folder of data set archives at hand.
        seed: random seed.
        offline: never touch a network.
    """

    protocol: str = "view2"
    defense: str | Sequence[str] = ("jpeg", "bit-depth", "median", "resize-pad", "noise")
    attack: "str | Attack | Sequence[str | Attack]" = "pgd"
    goal: str | Sequence[str] = ("dodging", "impersonation")
    norm: str | Sequence[str] = ()
    steps: int | None = None
    restarts: int | None = None
    queries: int | None = None
    draws: int | None = None
    count: int = 100
    far: float | None = None
    surrogate: Model | None = None
    check: int = 16
    check_steps: int = STEPS
    detect: bool = True
    epsilon: float = 0.02
    certified: str | Path | Sequence[str | Path] = ()
    recipe: str | None = None
    manual_dir: str | Path | None = None
    seed: int = 0
    offline: bool = False

    def rows(self) -> "RowConfig":
        """Return the configuration of each row.

        Raises:
            UserError: a value is unknown or out of range.
        """
        settings = {name: getattr(self, name) for name in _SETTINGS if getattr(self, name) is not None}
        experiment = ExperimentConfig(
            attacks=attack_grid(as_list(self.attack), as_list(self.norm), settings),
            goals=tuple(dict.fromkeys(as_list(self.goal))),
            protocol=self.protocol,
            count=self.count,
            far=self.far,
            measured=True,
            seed=self.seed,
            draws=self.draws or DRAWS,
        )
        for goal in experiment.goals:
            if goal not in GENUINE_GOAL:
                raise UserError(f"`goal` is {goal!r}: give {' or '.join(GENUINE_GOAL)}", parameter="goal")
        return RowConfig(
            experiment, self.epsilon, self.check, self.check_steps, DetectionConfig() if self.detect else None
        )

    def stacks(self) -> list[list[str]]:
        """Return the defenses of each row; the first has none."""
        texts = [text for text in as_list(self.defense) if text.strip() != _NONE]
        stacks = [[part for part in text.split("+") if part.strip()] for text in texts]
        return [[], *(stack for place, stack in enumerate(stacks) if stack and stack not in stacks[:place])]


@dataclass(frozen=True)
class RowConfig:
    """Configuration of every row of the table.

    Attributes:
        experiment: attacks, goals, protocol, count and seed; the smallest epsilon is always searched for.
        epsilon: of the attacks that a detector is tried on.
        check: photographs of the gradient checks; 0 for none.
        check_steps: of PGD there.
        detection: of the detector; None for no detection.
    """

    experiment: ExperimentConfig
    epsilon: float = 0.02
    check: int = 16
    check_steps: int = STEPS
    detection: DetectionConfig | None = None


@dataclass(frozen=True, eq=False)
class BenchmarkResults(Result):
    """Results of a benchmark, one entry a model.

    Attributes:
        entries: as `metrics.json` holds them; `rows` are the defenses.
    """

    entries: Sequence[Metrics]

    @property
    def rows(self) -> list[Metrics]:
        """Return the rows of the first model, one a defense."""
        return list(self.entries[0]["rows"])

    def to_dict(self) -> Metrics:
        return one_or_many(list(self.entries))

    def tables(self) -> list[Table]:
        return [table for metrics in self.entries for table in benchmark_tables(metrics)]

    def plot(self) -> "Figure":
        """Draw the heat map of the first model: the median of the smallest epsilon by defense and attacker."""
        from tfface.report.robustness_plots import plot_heat_map

        return plot_heat_map(self.entries[0])

    def save_files(self, folder: Path) -> list[str]:
        from tfface.report import robustness_plots as plots

        written = []
        for metrics, suffix in zip(self.entries, suffixes([entry["preset"] for entry in self.entries]), strict=True):
            drawn = {"heat_map": plots.plot_heat_map, "error_against_epsilon": plots.plot_curves}
            if any(row["detection"] for row in metrics["rows"]):
                drawn["detection"] = plots.plot_detection
            for name, plot in drawn.items():
                save_figure(plot(metrics), folder / f"{name}{suffix}.png")
                written.append(f"{name}{suffix}.png")
        return written


@configured(BenchmarkConfig)
def benchmark_robustness(
    embedder: Model | Sequence[Model] = "facenet",
    dataset: Source = "lfw",
    *,
    config: BenchmarkConfig,
) -> BenchmarkResults:
    """Benchmark defenses of face embedders: accuracy, robustness, detection and cost of each.

    For every defense: accuracy at a threshold of its own, the median of the smallest epsilon that succeeds for an
    attack that does not know it (naive), one that follows its gradient (white box) and one through another model
    (transfer), detection of attacked photographs by squeezed views, certified accuracy where it was measured, and the
    time of an image. A defense that only looks good to the naive attack, or fails a gradient check, is broken.

    Args:
        embedder: a model, its name or its file; one or several.
        dataset: a data set, its name, or a folder with one subfolder per person.

    Returns:
        A `BenchmarkResults`: a row for each defense.

    Raises:
        UserError: a value is unknown or out of range, or there is nothing to attack.

    Example:
        >>> import tfface
        >>> result = tfface.benchmark_robustness(  # doctest: +SKIP
        ...     "student/lfw-distilled", "orl_faces", protocol="all-pairs", defense="jpeg", count=8
        ... )
        >>> [row["verdict"]["status"] for row in result.rows]  # doctest: +SKIP
        ['undefended', 'no gain']
    """
    clock, rows = Clock(), config.rows()
    certificates = _certificates(as_list(config.certified))
    contexts = load_contexts(
        as_list(embedder),
        dataset,
        recipe_name=config.recipe,
        surrogate=config.surrogate,
        manual_dir=config.manual_dir,
        offline=config.offline,
        seed=config.seed,
    )
    defended = [[context.behind(stack) for stack in config.stacks()] for context in contexts]
    check_protocol(contexts[0].dataset, config.protocol)
    entries = []
    for context, row_contexts in zip(contexts, defended, strict=True):
        found = [benchmark_row(rows, one) for one in row_contexts]
        _add_speed(found, row_contexts)
        for one, entry in zip(row_contexts, found, strict=True):
            entry["certified"] = _certified(one, certificates)
            entry["verdict"] = verdict(entry, found[0])
        model, name = context.embedder, context.recipe.name
        record = run_record("benchmark-robustness", model, name, context.dataset, config.seed, clock)
        entries.append({**record, **_facts(rows, context), "rows": found})
    return BenchmarkResults(entries)


def benchmark_row(config: RowConfig, context: Context) -> Metrics:
    """Measure one model behind one stack of defenses, all but its speed.

    Args:
        config: attacks, checks and detection.
        context: the model, defended or not, the data set, and another model for attacks that transfer.
    """
    embedder = context.embedder
    label = " + ".join(defense.short for defense in context.stack) or "no defense"
    logger.warning(f"{embedder.preset.name}, {label}")
    plan = config.experiment
    found = evaluate_embeddings(
        context.dataset, context.embeddings(), embedder.preset, protocol=plan.protocol, seed=plan.seed
    ).metrics
    calibrated = found["calibrated"] or found["fixed"]
    # A defense's effect on distances is not held against it: each row has its own threshold.
    own: dict[str, Any] = {}
    if plan.far is None:
        _, limit, _ = embedder.preset.decide(calibrated and calibrated["threshold"])
        own = {"fold_thresholds": True} if plan.protocol != ALL_PAIRS else {"threshold": limit}
    plan = dataclasses.replace(plan, epsilons=(), **own)
    attacks: list[Metrics] = []
    direct: Experiment | None = None
    for seen in _seen(context):
        experiment = prepare(plan, seen)
        direct = direct or experiment
        attacks += [_attack(trial, rows.epsilon[rows.attacked, 0], entry) for trial, rows, entry in experiment.run()]
    assert direct is not None, "every model is attacked directly"
    first: dict[str, Trial] = {}
    for trial in direct.trials if embedder.differentiable else ():
        first.setdefault(trial.subjects.goal, trial)
    if not first:
        logger.warning(f"{embedder.preset.name} gives no gradients: they are not checked, nor is detection tried")
    return {
        "label": label,
        "defense": list(embedder.defense),
        "defense_facts": embedder.record().get("defense_facts", []),
        "accuracy": calibrated,
        "threshold": direct.threshold.record(),
        "attacks": attacks,
        "checks": {goal: _check(trial, config) for goal, trial in first.items()} if config.check else {},
        "detection": {goal: _detection(trial, config) for goal, trial in first.items()} if config.detection else {},
        "certified": None,
    }


def _facts(config: RowConfig, context: Context) -> Metrics:
    experiment, surrogate = config.experiment, context.surrogate
    return {
        "protocol": experiment.protocol,
        "count": experiment.count,
        "draws": experiment.draws,
        **({"far": experiment.far} if experiment.far is not None else {}),
        "checked": config.check,
        "check_steps": config.check_steps,
        "surrogate": surrogate.preset.name if surrogate else None,
        "surrogate_sha256": surrogate.sha256 if surrogate else None,
    }


def _add_speed(rows: Sequence[Metrics], contexts: Sequence[Context]) -> None:
    """Add the milliseconds of one image, measured by turns."""
    size = contexts[0].embedder.preset.input_size
    times = median_milliseconds(
        [context.embedder.embed for context in contexts],
        lambda turn: np.random.default_rng(turn).random((1, size, size, 3), np.float32),
        rounds=15,
    )
    for entry, time in zip(rows, times, strict=True):
        entry["ms"] = time


def _certificates(folders: Sequence[str | Path]) -> list[Metrics]:
    """Read the results of `certify` in some folders.

    Raises:
        UserError: one holds other results.
    """
    found = read_runs([user_path(folder) for folder in folders]) if folders else []
    for run in found:
        if run.command != "certify":
            raise UserError(
                f"`certified`: {run.folder} holds a result of {run.command}, not of certify: give its output folder",
                parameter="certified",
            )
    return [run.metrics for run in found]


def _certified(context: Context, certificates: Sequence[Metrics]) -> Metrics | None:
    """Return the certificate of a row: of the same weights, for the noise in front of them."""
    sigma = [getattr(defense, "sigma", None) for defense in context.stack]
    for found in certificates:
        if found["weights_sha256"] == context.embedder.sha256 and sigma == [found["smoothing"]["sigma"]]:
            entry = next((entry for entry in found["certified"] if entry["radius"] > 0), found["certified"][0])
            return {"radius": entry["radius"], "accuracy": entry["accuracy"]}
    return None


def _seen(context: Context) -> Iterator[Context]:
    """Yield the contexts of attackers in turn: they see the model itself, the undefended one, another model."""
    surrogate = context.surrogate
    direct = dataclasses.replace(context, surrogate=None)
    yield direct
    naive = direct.unaware()
    if naive is not None:
        yield naive
    if surrogate is not None and surrogate.sha256 != context.embedder.sha256:
        yield context


def _attack(trial: Trial, epsilons: np.ndarray, entry: Metrics) -> Metrics:
    """Return a cell, with the smallest epsilon of every pair that fell, for curves."""
    knowledge = trial.context.knowledge or ("transfer" if trial.context.surrogate else "adaptive")
    return {
        **entry,
        "knowledge": "white box" if knowledge == "adaptive" else knowledge,
        "epsilons": np.sort(epsilons[np.isfinite(epsilons)]).tolist(),
    }


def _check(trial: Trial, config: RowConfig) -> Metrics:
    settings = {"count": config.check, "steps": config.check_steps, "restarts": RESTARTS}
    fingerprint = {"format": _FORMAT, "trial": trial.fingerprint(), **settings}
    return cached("checks", fingerprint, lambda: check_trial(trial, **settings))


def _detection(trial: Trial, config: RowConfig) -> Metrics:
    assert config.detection is not None, "called only with a detector"
    return detect(dataclasses.replace(trial, epsilons=(config.epsilon,)), config.detection)
