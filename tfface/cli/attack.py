"""`python cli.py attack --goal classify --dataset lfw`: photographs that a model gets wrong."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder
    from tfface.robustness import adversarial_dataset
    from tfface.robustness.experiment import AttackConfig, Experiment
    from tfface.robustness.trial import Trial
    from tfface.training.head import Head


# The option of each field of an attack.
_SETTINGS = {
    "steps": "--steps",
    "alpha": "--step-size",
    "restarts": "--restarts",
    "decay": "--decay",
    "queries": "--queries",
    "searches": "--searches",
    "confidence": "--confidence",
}


@click.command(cls=_options.Command)
@_options.models
@_options.dataset_name("five_faces")
@click.option(
    "--attack",
    "attack_names",
    multiple=True,
    default=("fgsm",),
    show_default=True,
    metavar="NAME",
    help="fgsm, bim, pgd, mim, cw, square; repeats.",
)
@click.option(
    "--goal",
    "goals",
    multiple=True,
    default=("dodging",),
    show_default=True,
    metavar="NAME",
    help="classify (a head's label), dodging (a genuine pair falls apart), impersonation (an impostor pair "
    "matches); repeats.",
)
@_options.defenses
@click.option(
    "--knowledge",
    type=click.Choice(["both", "adaptive", "naive"]),
    default="both",
    show_default=True,
    help="Of the defense: adaptive follows its gradient, naive attacks the undefended model.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    help="A gradient through a defense that draws at random is the mean of so many draws.  [default: 10]",
)
@click.option("--norm", "norms", multiple=True, metavar="NAME", help="linf or l2; the attack's own if absent; repeats.")
@_options.epsilons
@click.option("--minimal", is_flag=True, help="Search for the smallest epsilon that succeeds, for each photograph.")
@click.option(
    "--protocol",
    default="all-pairs",
    show_default=True,
    metavar="NAME",
    help="Where pairs are drawn from: all-pairs, or a list of the data set (of LFW view2, view1-test ...).",
)
@click.option(
    "--pairs",
    "pairs_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw them from this file (LFW's format, or a CSV a,b,same[,fold]).",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="So many pairs, or test photographs.  [default: 100 pairs, all photographs]",
)
@click.option("--threshold", type=_options.Distance(), help="A pair matches up to it, in the preset's metric.")
@click.option(
    "--far",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Choose the threshold of this false accept rate, on all pairs of people who are in no attacked pair.",
)
@click.option("--fold-thresholds", is_flag=True, help="Choose each fold's threshold on the other folds (View 2).")
@click.option("--quantize", is_flag=True, help="Judge the 8-bit image that a file would hold.")
@click.option("--jpeg", type=click.IntRange(1, 100), metavar="QUALITY", help="Judge what survives JPEG compression.")
@click.option("--steps", type=click.IntRange(min=1), help="Of iterative attacks.")
@click.option("--step-size", "alpha", type=_options.Epsilon(), help="Of iterative attacks, in epsilon's unit.")
@click.option("--restarts", type=click.IntRange(min=1), help="Random starts (pgd).")
@click.option("--decay", type=_options.Distance(), help="Of the momentum (mim).")
@click.option("--queries", type=click.IntRange(min=1), help="Answers of the model for an image (square).")
@click.option("--searches", type=click.IntRange(min=1), help="Constants tried (cw).")
@click.option("--confidence", type=_options.Distance(), help="Margin asked for (cw).")
@click.option(
    "--surrogate",
    "surrogate_name",
    metavar="NAME",
    help="Attack this model instead and see what transfers to --model.",
)
@click.option(
    "--head",
    "head_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A head.npz that an earlier run wrote, instead of training one.",
)
@click.option("--check", is_flag=True, help="Check first whether the model only hides its gradients.")
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the adversarial data set there: PNG files, judged as such, and manifest.json.",
)
@_options.recipe_name
@_options.manual_dir
@_options.seed
@_options.offline
@_options.cluster
@_options.out
def command(**options: Any) -> None:
    """Attacks photographs: error rates at each epsilon, or the smallest epsilon that succeeds.

    With --goal classify: the paper's Table 2, a head of six people on the frozen model, and whether
    the photographs that fool it still pass the similarity test. What the model already gets wrong is
    counted and left out of the rate; an attack that fails counts as a failure. With --defense the attack
    knows it; what one that does not reaches stands beside.
    """
    from tfface.data.catalogue import load_dataset
    from tfface.defenses._stack import apply
    from tfface.models._embedder import load_embedder
    from tfface.preprocessing.images import recipe
    from tfface.robustness import adversarial_dataset
    from tfface.robustness.experiment import prepare
    from tfface.utils.result import Clock, run_record

    clock = Clock()
    plan = dataclasses.replace(_plan(options), executor=_options.executor(options["cluster"]))
    embedders = [
        apply(load_embedder(name, offline=options["offline"]), options["defense_texts"])
        for name in options["model_names"]
    ]
    surrogate = options["surrogate_name"] and load_embedder(options["surrogate_name"], offline=options["offline"])
    dataset = load_dataset(options["dataset_name"], manual_dir=options["manual_dir"], offline=options["offline"])
    experiments = []
    for embedder in embedders:
        chosen = recipe(options["recipe_name"] or dataset.own_recipe or embedder.preset.recipe)
        experiments += [prepare(plan, dataset, embedder, chosen, seen) for seen in _seen(options, embedder, surrogate)]
    made: list[adversarial_dataset.Made] = []
    objects: list[dict[str, Any]] = []
    checks: dict[tuple[str, ...], dict[str, Any]] = {}
    with adversarial_dataset.claimed(
        options["save"], [trial for experiment in experiments for trial in experiment.trials]
    ) as done:
        for experiment in experiments:
            if options["check"]:
                checks = _checks(experiment, checks)
            for trial, rows, entry in experiment.run():
                record = run_record(
                    "attack", experiment.context.embedder, experiment.context.recipe.name, dataset, plan.seed, clock
                )
                verdict = checks.get(_checked(trial))
                objects.append({**record, **entry, **({"check": verdict} if verdict else {})})
                made.append(adversarial_dataset.Made(experiment, trial, rows))
        if options["save"]:
            count = done or adversarial_dataset.write(options["save"], made)
    _show(objects)
    if options["save"]:
        click.echo(f"wrote {count} adversarial photographs and manifest.json in {options['save']}")
    if options["out"]:
        _write(options["out"], made, objects)


def _plan(options: dict[str, Any]) -> "AttackConfig":
    """What is asked for; refuses what needs no data to be refused."""
    from tfface.errors import UserError
    from tfface.robustness.context import Judging
    from tfface.robustness.experiment import AttackConfig, check_goals
    from tfface.robustness.grid import attack_grid

    if options["defense_texts"] and options["surrogate_name"] and options["knowledge"] != "both":
        raise UserError("--surrogate attacks another model: leave out --knowledge, or --surrogate")
    if options["draws"] is not None and not options["defense_texts"]:
        raise UserError("--draws is of defenses that draw at random: add --defense, or leave it out")
    if options["minimal"] and _options.given("epsilons"):
        raise UserError("--minimal searches for the epsilon itself: leave out --epsilon, or --minimal")
    settings = {field: options[field] for field in _SETTINGS if options[field] is not None}
    plan = AttackConfig(
        attacks=attack_grid(options["attack_names"], options["norms"], settings, options=_SETTINGS),
        goals=tuple(dict.fromkeys(options["goals"])),
        epsilons=() if options["minimal"] else options["epsilons"],
        protocol=options["protocol"],
        pairs_file=options["pairs_file"],
        count=options["count"],
        threshold=options["threshold"],
        far=options["far"],
        fold_thresholds=options["fold_thresholds"],
        # A saved photograph is an 8-bit file: it is judged as one.
        judging=Judging.of(quantize=options["quantize"] or options["save"] is not None, quality=options["jpeg"]),
        pictures=options["save"] is not None,
        head_file=options["head_file"],
        seed=options["seed"],
        **({"draws": options["draws"]} if options["draws"] else {}),
    )
    check_goals(plan)
    return plan


def _seen(options: dict[str, Any], embedder: "Embedder", surrogate: "Embedder | None") -> "list[Embedder | None]":
    """What attacks on a model see in turn: itself (None), what stands behind its defense, or a surrogate."""
    from tfface.defenses._stack import DefendedEmbedder

    if surrogate or not isinstance(embedder, DefendedEmbedder):
        return [surrogate or None]
    known: dict[str, list[Embedder | None]] = {"adaptive": [None], "naive": [embedder.undefended]}
    return known.get(options["knowledge"], [None, embedder.undefended])


def _checked(trial: "Trial") -> tuple[str, ...]:
    """What one verdict of the sanity checks is about: they attack the model itself, whatever the trial sees."""
    embedder = trial.context.embedder
    return embedder.preset.name, *embedder.defense, trial.subjects.goal, trial.attack.norm


def _checks(
    experiment: "Experiment", known: dict[tuple[str, ...], dict[str, Any]]
) -> dict[tuple[str, ...], dict[str, Any]]:
    """The verdicts of the sanity checks, with those that this campaign adds."""
    from tfface.robustness.checking import check_trial

    first = {_checked(trial): trial for trial in reversed(experiment.trials)}
    return {**{key: check_trial(trial) for key, trial in first.items() if key not in known}, **known}


def _show(objects: list[dict[str, Any]]) -> None:
    from tfface.report.attack_tables import print_attacks, print_check

    for entry in objects:
        if "check" in entry:
            print_check(entry)
    print_attacks(objects)


def _write(out: Path, made: "list[adversarial_dataset.Made]", objects: list[dict[str, Any]]) -> None:
    """Pictures, the heads that were trained, and `metrics.json`."""
    from tfface.report import attack_plots
    from tfface.report.attack_tables import figure_title
    from tfface.robustness.examples import examples
    from tfface.utils.files import write_json
    from tfface.utils.result import one_or_many

    written = []
    for number, (one, entry) in enumerate(zip(made, objects, strict=True), start=1):
        suffix = "" if len(made) == 1 else f"-{number}-{one.trial.label}"
        found = examples(one.trial, one.rows, one.experiment.similarity)
        if found:
            attack_plots.plot_figure_1(out / f"figure1{suffix}.png", figure_title(entry), found)
            if not one.trial.minimal:  # there each photograph has an epsilon of its own
                attack_plots.write_figure_1(out / f"figure1{suffix}", found)
            written += [f"figure1{suffix}.png"]
    if any(len(entry.get("results", ())) > 1 for entry in objects):
        attack_plots.plot_error_rates(out / "error_rate.png", objects)
        written.append("error_rate.png")
    if any("median_epsilon" in entry for entry in objects):
        curves = [
            (attack_plots.label_of(entry, objects), entry["norm"], one.rows.epsilon[one.rows.attacked, 0])
            for one, entry in zip(made, objects, strict=True)
        ]
        attack_plots.plot_smallest(out / "minimal_epsilon.png", curves)
        written.append("minimal_epsilon.png")
    for name, trained in _heads(made).items():
        trained.save(out / name)
        written.append(name)
    write_json(out / "metrics.json", one_or_many(objects))
    click.echo(f"wrote {', '.join([*written, 'metrics.json'])} in {out}")


def _heads(made: "list[adversarial_dataset.Made]") -> "dict[str, Head]":
    """The heads under attack by the file that `--head` takes later."""
    heads = {
        one.trial.context.embedder.preset.name: one.trial.context.head
        for one in made
        if one.trial.context.head is not None
    }
    names = (
        [f"head-{name.replace('/', '-').replace(':', '-')}.npz" for name in heads] if len(heads) > 1 else ["head.npz"]
    )
    return dict(zip(names, heads.values(), strict=False))
