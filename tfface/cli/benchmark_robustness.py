"""`tfface benchmark-robustness --model student --dataset lfw`: which defense holds, and at what cost."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish


@click.command(cls=_command.Command)
@_command.embedders
@_command.dataset("lfw")
@click.option(
    "--protocol",
    default="view2",
    show_default=True,
    metavar="NAME",
    help="Protocol of accuracy, thresholds and attacked pairs: view2 or view1 of LFW, or all-pairs.",
)
@click.option(
    "--defense",
    multiple=True,
    default=("jpeg", "bit-depth", "median", "resize-pad", "noise"),
    show_default=True,
    metavar="NAME[:k=v,...][+...]",
    help="A row of the table; + joins those that stand one behind the other. The undefended model is always the "
    "first; repeats.",
)
@click.option(
    "--attack",
    multiple=True,
    default=("pgd",),
    show_default=True,
    metavar="NAME",
    help=f"{_command.ATTACKS}; repeats.",
)
@click.option(
    "--goal",
    multiple=True,
    type=click.Choice(["dodging", "impersonation"]),
    default=("dodging", "impersonation"),
    show_default=True,
    help="Repeats.",
)
@click.option("--norm", multiple=True, metavar="NAME", help="linf or l2; the attack's own if absent; repeats.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of iterative attacks.  [default: the attack's own]")
@click.option("--restarts", type=click.IntRange(min=1), help="Random starts (pgd).")
@click.option("--queries", type=click.IntRange(min=1), help="Answers of the model for an image (square).")
@click.option(
    "--draws", type=click.IntRange(min=1), help="Draws of a random defense whose mean a gradient is.  [default: 10]"
)
@click.option("--count", type=click.IntRange(min=1), default=100, show_default=True, help="Pairs attacked for a goal.")
@click.option(
    "--far",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Judge each row at the threshold of this false accept rate, measured behind its defense on all pairs of "
    "people in no attacked pair.  [default: the best threshold on other folds or people]",
)
@click.option("--surrogate", metavar="NAME", help="Another model, for attacks that transfer from it.")
@click.option(
    "--check",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Pairs of a goal for the gradient checks; 0 leaves them out.",
)
@click.option(
    "--check-steps",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Steps of PGD in the gradient checks.",
)
@click.option("--detect/--no-detect", default=True, show_default=True, help="Try detection by squeezed views.")
@click.option(
    "--epsilon",
    type=_command.Epsilon(),
    default=0.02,
    show_default=True,
    help="Budget of the detected attacks.",
)
@click.option(
    "--certified",
    multiple=True,
    type=_command.FilePath(exists=True, path_type=Path),
    metavar="DIR",
    help="Output folder of certify: fills the row of its model and noise; repeats.",
)
@_command.recipe
@_command.manual_dir
@_command.seed
@_command.offline
@_command.out
def command(out: Path | None, **parameters: Any) -> None:
    """Fill one table: each defense's accuracy, and the epsilon of attackers who know more or less of it.

    For every defense: accuracy at a threshold of its own, the median of the smallest epsilon that succeeds
    for an attack that does not know it (naive), one that follows its gradient (white box) and one through
    another model (transfer), detection of attacked photographs by squeezed views, certified accuracy where it
    was measured, and the time of an image. A defense that only looks good to the naive attack, or fails a
    gradient check, is listed as broken. Cells are cached: a run that was stopped goes on.
    """
    from tfface.robustness.benchmark import benchmark_robustness

    finish(benchmark_robustness(**parameters), out)
