"""`tfface evaluate --model facenet`: how well a face embedder tells people apart."""

from pathlib import Path
from typing import Any

import click

from tfface.augmentation.changes import CORRUPTIONS, describe
from tfface.cli import _command
from tfface.cli._command import finish


@click.command(cls=_command.Command)
@_command.embedders
@click.option(
    "--dataset",
    multiple=True,
    default=("five_faces",),
    show_default=True,
    metavar="NAME",
    help="Data set, or a folder with one subfolder per person; repeats.",
)
@click.option(
    "--protocol", default="all-pairs", show_default=True, metavar="NAME", help="all-pairs; of LFW view1 and view2."
)
@click.option(
    "--pairs",
    type=_command.FilePath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Evaluate the pairs of this file (LFW's format, or a CSV a,b,same[,fold]) instead of a protocol's.",
)
@click.option(
    "--recipe",
    multiple=True,
    metavar="NAME",
    help="Crop recipe: whole, center-140, mtcnn-v1-margin0.20, align5-112 ...; repeats.  [default: the preset's]",
)
@_command.flip
@_command.defense
@click.option(
    "--corrupt",
    multiple=True,
    metavar="NAME:SEVERITY",
    help=f"Measure under a corruption of each crop; several are compared with the clean run. {describe(CORRUPTIONS)}.",
)
@click.option(
    "--threshold", type=_command.Distance(), help="Fixed threshold in the preset's metric, instead of the preset's."
)
@_command.far
@click.option(
    "--groups",
    multiple=True,
    type=_command.FilePath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Report error rates by group; the file maps images or people to groups; repeats.",
)
@click.option("--images-per-person", type=click.IntRange(min=1), help="Draw so many images of each person.")
@click.option("--strict", is_flag=True, help="Stop if a photograph fails, instead of counting it.")
@_command.manual_dir
@_command.seed
@_command.offline
@_command.cluster
@_command.out
def command(out: Path | None, **parameters: Any) -> None:
    """Evaluate how well face embedders tell people apart.

    Several models, data sets, recipes or corruptions are compared in one table. The default data set,
    five_faces, and FaceNet's weights come from a package registry.
    """
    from tfface.evaluation.evaluate import evaluate

    finish(evaluate(**parameters), out)
