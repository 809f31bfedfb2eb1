"""`tfface probe my.onnx`: how a model's file is to be fed."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish


@click.command(cls=_command.Command)
@click.argument("embedder", metavar="MODEL")
@_command.dataset("five_faces")
@click.option(
    "--protocol",
    default="all-pairs",
    show_default=True,
    metavar="NAME",
    help="all-pairs of the people drawn; of LFW view1, its lists of pairs.",
)
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    metavar="NAME",
    help="Crop recipe to try; repeats.  [default: two boxes and three alignments, and the model's own]",
)
@click.option("--scale", "scales", multiple=True, metavar="NAME", help="Scale to try; repeats.  [default: all known]")
@click.option(
    "--photographs",
    type=click.IntRange(min=10),
    default=300,
    show_default=True,
    help="Largest number of photographs, drawn by people.",
)
@click.option(
    "--write/--no-write",
    default=True,
    show_default=True,
    help="Write what was found into the record beside the model's file.",
)
@_command.seed
@_command.manual_dir
@_command.offline
@_command.out
def command(out: Path | None, **parameters: Any) -> None:
    """Find out how a model is to be fed: colour order, scale and crop, by how well it tells people apart.

    MODEL is a file of one's own (.keras, .h5, .tflite, .onnx, a SavedModel's folder). Of a preset nothing is written:
    it is seen from outside of its own input layers. The ranking says which combinations cannot be told apart from the
    best; few people decide little.
    """
    from tfface.evaluation.probe import probe

    finish(probe(**parameters), out)
