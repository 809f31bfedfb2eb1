"""`tfface mine --model facenet --dataset lfw --protocol view2`: the pairs that a model gets wrong."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish


@click.command(cls=_command.Command)
@_command.embedder
@_command.dataset("five_faces")
@click.option(
    "--protocol", default="all-pairs", show_default=True, metavar="NAME", help="all-pairs; of LFW view1 and view2."
)
@_command.recipe
@_command.flip
@click.option("--threshold", type=_command.Distance(), help="Threshold in the preset's metric, instead of its own.")
@_command.far
@click.option(
    "--calibrated", is_flag=True, help="Score each pair at a threshold chosen on other people or folds, as evaluate."
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Number of pairs of each kind to list, and of people.",
)
@click.option("--strict", is_flag=True, help="Stop if a photograph fails, instead of counting it.")
@_command.manual_dir
@_command.seed
@_command.offline
@_command.cluster
@_command.out
def command(out: Path | None, **parameters: Any) -> None:
    """Mine the pairs that a face embedder gets wrong, and the people on them.

    False positives are impostor pairs at or below the threshold, the closest first; false
    negatives genuine pairs above it, the farthest first. The counts are of all pairs.
    """
    from tfface.evaluation.mining import mine

    finish(mine(**parameters), out)
