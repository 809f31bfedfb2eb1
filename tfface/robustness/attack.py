"""Attack face embedders on the photographs of a data set."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.distributed.cluster import executor_at
from tfface.report.attack_tables import attack_tables, check_table, figure_title
from tfface.robustness import adversarial_dataset
from tfface.robustness.adversarial_dataset import TrialRun
from tfface.robustness.experiment import (
    Experiment,
    ExperimentConfig,
    HeadConfig,
    attack_grid,
    check_goals,
    prepare,
)
from tfface.robustness.results import examples
from tfface.robustness.run import check_trial
from tfface.robustness.trial import DRAWS, Context, ImageFormat, Model, Source, Trial, load_contexts
from tfface.utils.public import (
    Clock,
    Result,
    Table,
    UserError,
    as_list,
    configured,
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

EPSILONS = (0.01, 0.015, 0.02)
"""Budgets of the paper's Table 2."""
_SETTINGS = ("steps", "step_size", "restarts", "decay", "queries", "searches", "confidence")
_KNOWLEDGE = ("both", "adaptive", "naive")


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """Configuration of an attack experiment.

    Attributes:
        attack: `fgsm`, `bim`, `pgd`, `mim`, `cw`, `square`, or an attack of `tfface.attacks`; one or several.
        goal: `dodging` (a genuine pair falls apart), `impersonation` (an impostor pair matches), `classify` (a
            classifier of six people answers another person, the paper's Table 2); one or several.
        norm: `linf` or `l2`, one or several; each attack's own by default.
        epsilons: budgets on the scale of [0, 1], the largest change (linf) or the root mean square (l2); the paper's
            0.01, 0.015 and 0.02 by default.
        minimal: search for the smallest epsilon that succeeds, for each photograph, instead of `epsilons`.
        steps: steps of iterative attacks.
        step_size: step of iterative attacks, in epsilon's unit.
        restarts: random starts (pgd).
        decay: decay of the momentum (mim).
        queries: answers of the model for an image (square).
        searches: constants tried (cw).
        confidence: margin of a success (cw).
        protocol: source of the pairs: `all-pairs`, or a list of the data set (of LFW `view2`, `view1-test` ...).
        pairs: a pairs file to draw from instead.
        count: number of pairs, or of test photographs; 100 pairs and all photographs by default.
        threshold: distance up to which a pair matches, in the preset's metric; the preset's by default.
        far: use the threshold of this false accept rate: the one that the model was calibrated at (`tfface.calibrate`);
            of a defended model, or one not calibrated at it, the one measured on people in no attacked pair.
        fold_thresholds: choose each fold's threshold on the other folds (LFW's View 2).
        quantize: judge the 8-bit image that a file would hold.
        jpeg: judge the image after JPEG compression of this quality.
        defense: input defenses in front of the model, as `jpeg:quality=75`.
        knowledge: attackers of a defended model: `adaptive` follows the defense's gradient, `naive` attacks the
            undefended model, or `both`.
        draws: draws of a random defense whose mean a gradient is; 10 by default.
        surrogate: model to attack instead, to see what transfers.
        head: file of a classifier that an earlier run saved, for the goal `classify`; one is trained by default.
        check: check first if the model only hides its gradients.
        save: folder for the adversarial data set: PNG files, judged as such, and `manifest.json`.
        recipe: crop recipe; the data set's own, or the preset's, by default.
        manual_dir: folder of data set archives at hand.
        seed: random seed.
        offline: never touch a network.
        cluster: work on a Ray cluster: `auto`, `ray://HOST:PORT` or `local:N`.
    """

    attack: "str | Attack | Sequence[str | Attack]" = "fgsm"
    goal: str | Sequence[str] = "dodging"
    norm: str | Sequence[str] = ()
    epsilons: float | Sequence[float] | None = None
    minimal: bool = False
    steps: int | None = None
    step_size: float | None = None
    restarts: int | None = None
    decay: float | None = None
    queries: int | None = None
    searches: int | None = None
    confidence: float | None = None
    protocol: str = "all-pairs"
    pairs: str | Path | None = None
    count: int | None = None
    threshold: float | None = None
    far: float | None = None
    fold_thresholds: bool = False
    quantize: bool = False
    jpeg: int | None = None
    defense: str | Sequence[str] = ()
    knowledge: str = "both"
    draws: int | None = None
    surrogate: Model | None = None
    head: str | Path | None = None
    check: bool = False
    save: str | Path | None = None
    recipe: str | None = None
    manual_dir: str | Path | None = None
    seed: int = 0
    offline: bool = False
    cluster: str | None = None

    def experiment(self) -> ExperimentConfig:
        """Return the configuration of each model's experiment.

        Raises:
            UserError: a value is unknown or out of range, or two exclude each other.
        """
        defended = bool(as_list(self.defense))
        if self.knowledge not in _KNOWLEDGE:
            raise UserError(f"`knowledge` is {self.knowledge!r}: give one of {', '.join(_KNOWLEDGE)}")
        if defended and self.surrogate and self.knowledge != "both":
            raise UserError("`surrogate` attacks another model: leave out `knowledge`, or `surrogate`")
        if self.draws is not None and not defended:
            raise UserError("`draws` is of defenses that draw at random: add `defense`, or leave it out")
        given = as_list(self.epsilons)
        if self.minimal and given:
            raise UserError("`minimal` searches for the epsilon itself: leave out `epsilons`, or `minimal`")
        for epsilon in given:
            if not 0 <= epsilon <= 1:
                raise UserError(f"`epsilons` has {epsilon}: give numbers from 0 to 1", parameter="epsilons")
        settings = {name: getattr(self, name) for name in _SETTINGS if getattr(self, name) is not None}
        config = ExperimentConfig(
            attacks=attack_grid(as_list(self.attack), as_list(self.norm), settings),
            goals=tuple(dict.fromkeys(as_list(self.goal))),
            epsilons=() if self.minimal else tuple(dict.fromkeys(given or EPSILONS)),
            protocol=self.protocol,
            pairs_file=self.pairs,
            count=self.count,
            threshold=self.threshold,
            far=self.far,
            fold_thresholds=self.fold_thresholds,
            # A saved photograph is an 8-bit file: it is judged as one.
            stored=ImageFormat.of(quantize=self.quantize or self.save is not None, quality=self.jpeg),
            pictures=self.save is not None,
            head=HeadConfig(self.head),
            seed=self.seed,
            draws=self.draws or DRAWS,
        )
        check_goals(config)
        return config


@dataclass(frozen=True, eq=False)
class AttackResults(Result):
    """Results of attacks, one entry for each model, goal, attack and norm.

    Attributes:
        entries: as `metrics.json` holds them.
        runs: the trials with the results of every photograph.
    """

    entries: Sequence[dict[str, Any]]
    runs: Sequence[TrialRun]

    @property
    def error_rates(self) -> dict[float, float | None]:
        """Return the error rate of attacked photographs by epsilon, of the first entry."""
        return {found["epsilon"]: found["error_rate"] for found in self.entries[0].get("results", ())}

    @property
    def median_epsilon(self) -> float | None:
        """Return the median of the smallest epsilons, of the first entry; None where it is infinite."""
        return self.entries[0].get("median_epsilon")

    def to_dict(self) -> dict[str, Any]:
        return one_or_many(list(self.entries))

    def tables(self) -> list[Table]:
        return [*(check_table(entry) for entry in self.entries if "check" in entry), *attack_tables(self.entries)]

    def plot(self) -> "Figure":
        """Draw the error rates against epsilon, or the distribution of the smallest epsilons."""
        from tfface.report import attack_plots

        if any("results" in entry for entry in self.entries):
            return attack_plots.plot_error_rates([entry for entry in self.entries if "results" in entry])
        curves = [
            (attack_plots.label_of(entry, self.entries), entry["norm"], run.rows.epsilon[run.rows.attacked, 0])
            for run, entry in zip(self.runs, self.entries, strict=True)
        ]
        return attack_plots.plot_smallest(curves)

    def save_files(self, folder: Path) -> list[str]:
        from tfface.report import attack_plots

        written = []
        labels = [f"{number}-{run.trial.label}" for number, run in enumerate(self.runs, start=1)]
        for run, entry, suffix in zip(self.runs, self.entries, suffixes(labels), strict=True):
            found = examples(run.trial, run.rows, run.similarity)
            if found:
                figure = attack_plots.plot_figure_1(figure_title(entry), found)
                save_figure(figure, folder / f"figure1{suffix}.png")
                if not run.trial.minimal:  # there each photograph has an epsilon of its own
                    attack_plots.write_figure_1(folder / f"figure1{suffix}", found)
                written += [f"figure1{suffix}.png"]
        minimal = "results" not in self.entries[0]
        if minimal or len(self.entries[0]["results"]) > 1:  # one epsilon is no curve
            written.append("minimal_epsilon.png" if minimal else "error_rate.png")
            save_figure(self.plot(), folder / written[-1])
        for name, head in self.heads().items():
            head.save(folder / name)
            written.append(name)
        return written

    def heads(self) -> dict[str, Any]:
        """Return the classifiers under attack by their files, for `head`."""
        found = {
            run.trial.context.embedder.preset.name: run.trial.context.head
            for run in self.runs
            if run.trial.context.head is not None
        }
        names = [f"head{suffix}.npz" for suffix in suffixes(list(found))]
        return dict(zip(names, found.values(), strict=True))


@configured(AttackConfig)
def attack(
    embedder: Model | Sequence[Model] = "facenet",
    dataset: Source = "five_faces",
    *,
    config: AttackConfig,
) -> AttackResults:
    """Attack face embedders on the photographs of a data set.

    Photographs that the model already gets wrong are counted and left out of the rate; an attack that fails counts as
    a failure. A defended model is attacked by an attacker who knows the defense, and by one who does not.

    Args:
        embedder: a model, its name or its file; one or several.
        dataset: a data set, its name, or a folder with one subfolder per person.

    Returns:
        An `AttackResults`: error rates at each epsilon, or the smallest epsilon that succeeds.

    Raises:
        UserError: a value is unknown or out of range, or there is nothing to attack.

    Example:
        >>> import tfface
        >>> result = tfface.attack("student/lfw-distilled", "five_faces", attack="pgd", epsilons=0.01)  # doctest: +SKIP
        >>> result.error_rates  # doctest: +SKIP
        {0.01: 0.93}
    """
    clock = Clock()
    plan = config.experiment()
    contexts = load_contexts(
        as_list(embedder),
        dataset,
        recipe_name=config.recipe,
        defenses=as_list(config.defense),
        surrogate=config.surrogate,
        manual_dir=config.manual_dir,
        offline=config.offline,
    )
    folder = user_path(config.save) if config.save is not None else None
    with executor_at(config.cluster) as executor:
        plan = dataclasses.replace(plan, executor=executor)
        experiments = [prepare(plan, seen) for context in contexts for seen in _seen(config, context)]
        trials = [trial for experiment in experiments for trial in experiment.trials]
        with adversarial_dataset.claimed(folder, trials) as done:
            found = list(_run(experiments, check=config.check, clock=clock))
            result = AttackResults([entry for _, entry in found], [run for run, _ in found])
            if folder is not None:
                count = done or adversarial_dataset.write(folder, result.runs)
                logger.info(f"wrote {count} adversarial photographs and manifest.json in {folder}")
    return result


def _run(experiments: Sequence[Experiment], *, check: bool, clock: Clock) -> Iterator[tuple[TrialRun, dict[str, Any]]]:
    """Run the trials of all experiments; yield each with its entry of `metrics.json`."""
    checks: dict[tuple[str, ...], dict[str, Any]] = {}
    for experiment in experiments:
        if check:
            first = {_checked(trial): trial for trial in reversed(experiment.trials)}
            checks = {**{key: check_trial(trial) for key, trial in first.items() if key not in checks}, **checks}
        context = experiment.context
        for trial, rows, entry in experiment.run():
            record = run_record("attack", context.embedder, context.recipe.name, context.dataset, context.seed, clock)
            own = checks.get(_checked(trial))
            yield TrialRun(trial, rows, experiment.similarity), {**record, **entry, **({"check": own} if own else {})}


def _seen(config: AttackConfig, context: Context) -> list[Context]:
    """Return the contexts of attackers in turn: of one who knows a defense, and of one who does not."""
    naive = context.unaware()
    if naive is None or context.surrogate:
        return [context]
    known = {"adaptive": [context], "naive": [naive]}
    return known.get(config.knowledge, [context, naive])


def _checked(trial: Trial) -> tuple[str, ...]:
    """Return the subject of a gradient check: it attacks the model itself, whatever the trial sees."""
    embedder = trial.context.embedder
    return embedder.preset.name, *embedder.defense, trial.subjects.goal, trial.attack.norm
