"""`tfface augment --dataset five_faces --out DIR`: changed copies of a data set's faces."""

from pathlib import Path
from typing import Any

import click

from tfface.augmentation.changes import KINDS, PAPER, describe
from tfface.cli import _command


@click.command(cls=_command.Command)
@_command.dataset("five_faces")
@click.option(
    "--kinds",
    default=",".join(PAPER),
    show_default=True,
    metavar="NAME[:STRENGTH],...",
    help=f"Changes that each copy passes through: {describe(KINDS)}.",
)
@click.option("--copies", type=click.IntRange(1, 1000), default=1, show_default=True, help="Copies of each photograph.")
@click.option("--recipe", metavar="NAME", help="Crop recipe; mtcnn-v1-margin0.20, or the data set's own, if absent.")
@click.option(
    "--size", type=click.IntRange(16, 1024), default=160, show_default=True, help="Side of the images, in pixels."
)
@click.option("--people", type=click.IntRange(min=1), help="Draw so many people.")
@click.option("--person", multiple=True, metavar="NAME", help="Take this person alone; repeats.")
@click.option("--images-per-person", type=click.IntRange(min=1), help="Draw so many images of each person.")
@click.option("--strict", is_flag=True, help="Stop if a photograph fails, instead of counting it.")
@_command.manual_dir
@_command.seed
@_command.offline
@click.option(
    "--out",
    required=True,
    type=_command.FilePath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the new data set; --dataset DIR reads it.",
)
def command(**parameters: Any) -> None:
    """Write augmented copies of a data set's faces, as a data set of their own.

    DIR/<person>/<photograph>-aug<number>.png, with a manifest, and contact_sheet.png to look at. The same
    command goes on where it was stopped. A copy is drawn from the seed, its photograph's name and its number
    alone.
    """
    from tfface.evaluation.augment import augment

    made = augment(**parameters)
    if made.resumed:
        click.echo(f"{made.folder} is complete already")
    click.echo(str(made))
