"""`tfface attack --goal classify --dataset lfw`: photographs that a model gets wrong."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish


@click.command(cls=_command.Command)
@_command.embedders
@_command.dataset("five_faces")
@click.option(
    "--attack",
    multiple=True,
    default=("fgsm",),
    show_default=True,
    metavar="NAME",
    help=f"{_command.ATTACKS}; repeats.",
)
@click.option(
    "--goal",
    multiple=True,
    default=("dodging",),
    show_default=True,
    metavar="NAME",
    help="classify (a head answers another person), dodging (a genuine pair falls apart), impersonation (an impostor "
    "pair matches); repeats.",
)
@_command.defense
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
    help="Draws of a random defense whose mean a gradient is.  [default: 10]",
)
@click.option("--norm", multiple=True, metavar="NAME", help="linf or l2; the attack's own if absent; repeats.")
@click.option(
    "--epsilon",
    "epsilons",
    multiple=True,
    type=_command.Epsilon(),
    help="Budget on the scale of [0, 1]: the largest change (linf) or the root mean square (l2); repeats.  "
    "[default: the paper's 0.01, 0.015, 0.02]",
)
@click.option("--minimal", is_flag=True, help="Search for the smallest epsilon that succeeds, for each photograph.")
@click.option(
    "--protocol",
    default="all-pairs",
    show_default=True,
    metavar="NAME",
    help="Source of the pairs: all-pairs, or a list of the data set (of LFW view2, view1-test ...).",
)
@click.option(
    "--pairs",
    type=_command.FilePath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw them from this file (LFW's format, or a CSV a,b,same[,fold]).",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="Number of pairs, or of test photographs.  [default: 100 pairs, all photographs]",
)
@click.option("--threshold", type=_command.Distance(), help="A pair matches up to it, in the preset's metric.")
@click.option(
    "--far",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Use the threshold of this false accept rate: the model's calibrated one (tfface calibrate); with --defense, "
    "or where there is none, the one measured on all pairs of people who are in no attacked pair.",
)
@click.option("--fold-thresholds", is_flag=True, help="Choose each fold's threshold on the other folds (View 2).")
@click.option("--quantize", is_flag=True, help="Judge the 8-bit image that a file would hold.")
@click.option("--jpeg", type=click.IntRange(1, 100), metavar="QUALITY", help="Judge the image after JPEG compression.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of iterative attacks.")
@click.option("--step-size", type=_command.Epsilon(), help="Step of iterative attacks, in epsilon's unit.")
@click.option("--restarts", type=click.IntRange(min=1), help="Random starts (pgd).")
@click.option("--decay", type=_command.Distance(), help="Decay of the momentum (mim).")
@click.option("--queries", type=click.IntRange(min=1), help="Answers of the model for an image (square).")
@click.option("--searches", type=click.IntRange(min=1), help="Constants tried (cw).")
@click.option("--confidence", type=_command.Distance(), help="Margin of a success (cw).")
@click.option("--surrogate", metavar="NAME", help="Attack this model instead and see what transfers to --model.")
@click.option(
    "--head",
    type=_command.FilePath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A head.npz that an earlier run wrote, instead of training one.",
)
@click.option("--check", is_flag=True, help="Check first if the model only hides its gradients.")
@click.option(
    "--save",
    type=_command.FilePath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the adversarial data set there: PNG files, judged as such, and manifest.json.",
)
@_command.recipe
@_command.manual_dir
@_command.seed
@_command.offline
@_command.cluster
@_command.out
def command(out: Path | None, **parameters: Any) -> None:
    """Attack photographs: error rates at each epsilon, or the smallest epsilon that succeeds.

    With --goal classify: the paper's Table 2, a head of six people on the frozen model, and if the photographs that
    fool it still pass the similarity test. Photographs that the model already gets wrong are counted and left out of
    the rate; an attack that fails counts as a failure. With --defense one attack knows it, another does not.
    """
    from tfface.robustness.attack import attack

    finish(attack(**parameters), out)
