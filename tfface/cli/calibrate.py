"""`tfface calibrate facenet --dataset lfw --people view1-train --far 0.001`: thresholds at false accept rates."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish


@click.command(cls=_command.Command)
@click.argument("embedder", metavar="MODEL")
@_command.dataset("lfw")
@click.option(
    "--people",
    default="all",
    show_default=True,
    metavar="NAME",
    help="People of the data set: all; fold1 to fold10, those of a fold of LFW's View 2; or those of a list of pairs, "
    "as view1-train.",
)
@click.option(
    "--far",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=(0.001,),
    show_default=True,
    help="False accept rate; repeats.",
)
@_command.recipe
@_command.flip
@click.option(
    "--write/--no-write",
    default=True,
    show_default=True,
    help="Write the thresholds into the model's record, beside its file; a preset's are kept in the cache.",
)
@click.option("--strict", is_flag=True, help="Stop if a photograph fails, instead of counting it.")
@_command.manual_dir
@_command.offline
@_command.out
def command(out: Path | None, **parameters: Any) -> None:
    """Calibrate thresholds of a model at stated false accept rates, on all pairs of people.

    MODEL is a preset or a file. Each threshold comes with its 95% interval, which allows for pairs that share people,
    the number of impostor pairs beyond it and the TAR at it. A rate with fewer than 30 pairs beyond is refused. The
    other commands take the thresholds by their own --far.
    """
    from tfface.evaluation.calibrate import calibrate

    finish(calibrate(**parameters), out)
