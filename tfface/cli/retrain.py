"""`python cli.py retrain --model facenet --dataset lfw`: a head retrained on adversarial images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfface.cli import _options

if TYPE_CHECKING:
    from tfface.paper.retraining import RetrainingConfig


@click.command(cls=_options.Command)
@_options.model
@_options.dataset_name("lfw")
@click.option(
    "--people",
    type=click.IntRange(min=2),
    default=6,
    show_default=True,
    help="So many people with most photographs; fewer where there are no more.",
)
@click.option("--photographs", type=click.IntRange(min=4), help="At most so many a person.  [default: all]")
@click.option(
    "--head",
    "head_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The old head, a head.npz that an earlier run wrote, with its people and photographs.",
)
@click.option(
    "--attack",
    default="fgsm",
    show_default=True,
    metavar="NAME",
    help="fgsm, the paper's, or pgd (of 20 steps), in training and test; with --rounds it is adversarial training.",
)
@_options.epsilons
@click.option(
    "--adversarial-share",
    type=float,
    default=0.5,
    show_default=True,
    help="Of what the new head is trained on; from 0 to below 1.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Attack the newest head and train a newer one so many times.",
)
@click.option(
    "--copies",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Further augmented copies, for each training photograph on average; the hardest people get twice as many.",
)
@click.option(
    "--hidden",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Units of a layer between, in the old head and the new; 0 for linear heads.",
)
@click.option(
    "--validate", is_flag=True, help="Judge on a part of the training photographs instead, to choose settings."
)
@_options.recipe_name
@_options.manual_dir
@_options.seed
@_options.offline
@_options.out
def command(**options: Any) -> None:
    """Retrains a classifier head on clean, augmented and adversarial images; the base stays frozen.

    Old head and new are judged on four sets made of the same test photographs, none of which trained
    either in any form: as they are, augmented, and attacked through the old head and the new.
    A photograph that a head gets wrong as it is stays in all sets.
    """
    from tfface.data.catalogue import load_dataset
    from tfface.models._embedder import load_embedder
    from tfface.paper import open_set, retraining, retraining_results
    from tfface.preprocessing.images import recipe
    from tfface.utils.result import Clock, run_record

    clock, plan = Clock(), _plan(options)
    embedder = load_embedder(options["model_name"], offline=options["offline"])
    dataset = load_dataset(options["dataset_name"], manual_dir=options["manual_dir"], offline=options["offline"])
    chosen = recipe(options["recipe_name"] or dataset.own_recipe or embedder.preset.recipe)
    start = retraining.begin(plan, dataset, embedder, chosen)
    retrained = retraining.retrain(plan, start)
    before, after = retraining_results.judge(plan, start, retrained)
    found = retraining_results.entry(plan, start, retrained, before, after)
    heads = {"old_head": start.old, "new_head": retrained.head}
    unseen = open_set.unseen_people(dataset, start.data.people)
    verification = open_set.verify(dataset, embedder, chosen, heads, unseen, seed=plan.seed)
    found["claims"].append(open_set.transfer_claim(verification))
    metrics = {
        **run_record("retrain", embedder, chosen.name, dataset, plan.seed, clock),
        **found,
        "verification": verification,
    }
    _show(metrics)
    if options["out"]:
        _write(options["out"], metrics, heads)


def _plan(options: dict[str, Any]) -> "RetrainingConfig":
    """What is asked for; refuses what needs no data to be refused."""
    from tfface.paper.retraining import RetrainingConfig

    return RetrainingConfig(
        epsilons=options["epsilons"],
        **{
            name: options[name]
            for name in (
                *("adversarial_share", "rounds", "copies", "hidden", "people", "photographs"),
                *("head_file", "validate", "attack", "seed"),
            )
        },
    )


def _show(metrics: dict[str, Any]) -> None:
    from tfface.report.retraining_tables import print_retraining

    print_retraining(metrics)


def _write(out: Path, metrics: dict[str, Any], heads: dict[str, Any]) -> None:
    from tfface.report.retraining_plots import plot_retraining
    from tfface.utils.files import write_json

    plot_retraining(out / "retraining.png", metrics)
    heads["new_head"].save(out / "head.npz")
    heads["old_head"].save(out / "old_head.npz")
    write_json(out / "metrics.json", metrics)
    click.echo(f"wrote retraining.png, head.npz, old_head.npz, metrics.json in {out}")
