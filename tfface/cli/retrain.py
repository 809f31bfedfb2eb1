"""`tfface retrain --model facenet --dataset lfw`: retrain a head on adversarial images."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish


@click.command(cls=_command.Command)
@_command.embedder
@_command.dataset("lfw")
@click.option(
    "--people",
    type=click.IntRange(min=2),
    default=6,
    show_default=True,
    help="Number of people with most photographs; fewer where there are no more.",
)
@click.option("--photographs", type=click.IntRange(min=4), help="Largest number a person.  [default: all]")
@click.option(
    "--head",
    type=_command.FilePath(exists=True, dir_okay=False, path_type=Path),
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
@_command.epsilons
@click.option(
    "--adversarial-share",
    type=float,
    default=0.5,
    show_default=True,
    help="Share of adversarial images among those that train the new head; from 0 to below 1.",
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
    help="Further augmented copies for each training photograph, on average; the hardest people get twice as many.",
)
@click.option(
    "--hidden",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Units of a hidden layer in both heads; 0 for linear heads.",
)
@click.option(
    "--threshold",
    type=_command.Distance(),
    help="A pair matches up to it, where the hardest people are mined; the preset's if absent.",
)
@click.option(
    "--validate",
    is_flag=True,
    help="Judge on a part of the training photographs instead, to choose hyperparameters.",
)
@_command.recipe
@_command.manual_dir
@_command.seed
@_command.offline
@_command.out
def command(out: Path | None, **parameters: Any) -> None:
    """Retrain a classifier head on clean, augmented and adversarial images; the base stays frozen.

    The old head and the new are judged on four sets made of the same test photographs, none of which
    trained either in any form: as they are, augmented, and attacked through the old head and the new.
    """
    from tfface.paper.retrain import retrain

    finish(retrain(**parameters), out)
