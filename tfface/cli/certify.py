"""`tfface certify --model student/lfw-noise --sigma 0.1 --dataset lfw`: verdicts that no small change turns."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish


@click.command(cls=_command.Command)
@_command.embedder
@_command.dataset("lfw")
@click.option(
    "--protocol",
    default="view2",
    show_default=True,
    metavar="NAME",
    help="Source of the pairs: a list of the data set (of LFW view2, view1-test ...), or all-pairs.",
)
@click.option(
    "--pairs",
    type=_command.FilePath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw them from this file (LFW's format, or a CSV a,b,same[,fold]).",
)
@click.option(
    "--count",
    type=click.IntRange(min=2),
    default=1000,
    show_default=True,
    help="Number of pairs, half of them genuine.",
)
@click.option(
    "--sigma",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="Standard deviation of the noise, on the scale of [0, 1].",
)
@click.option(
    "--samples", type=click.IntRange(min=1), default=1000, show_default=True, help="Noisy copies counted for a pair."
)
@click.option("--guess", type=click.IntRange(min=1), default=100, show_default=True, help="Further copies to guess by.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.001,
    show_default=True,
    help="Probability with which a certificate may be wrong.",
)
@click.option("--threshold", type=_command.Distance(), help="A pair matches up to it, in the preset's metric.")
@_command.far
@click.option(
    "--fold-thresholds",
    is_flag=True,
    help="Choose each fold's threshold on noisy copies of the other folds' pairs (View 2).",
)
@click.option(
    "--radius",
    "radii",
    multiple=True,
    type=_command.Distance(),
    help="L2 radius to give the certified accuracy at; repeats.  [default: multiples of sigma]",
)
@click.option(
    "--check",
    type=click.IntRange(min=1),
    metavar="N",
    help="Attack N certified pairs inside their radius, and at 10 times it, and count what breaks.",
)
@_command.recipe
@_command.manual_dir
@_command.seed
@_command.offline
@_command.out
def command(out: Path | None, **parameters: Any) -> None:
    """Certify verdicts on pairs by randomized smoothing: within a radius no change of the photograph turns them.

    One photograph of a pair may be changed, the reference is fixed. The smoothed verdict is the one
    that the model gives most often under Gaussian noise; its certificate is an L2 radius. A model
    trained with that noise (distill --noise) is certified much further than another.
    """
    from tfface.robustness.certify import certify

    finish(certify(**parameters), out)
