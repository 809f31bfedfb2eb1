"""`tfface reproduce`: the whole paper on LFW; `--dataset five_faces` in minutes."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import show


@click.command(cls=_command.Command)
@_command.embedder
@_command.dataset("lfw")
@_command.epsilons
@click.option("--distill", is_flag=True, help="Train the student (hours) instead of taking the one at hand.")
@click.option("--only", multiple=True, metavar="STAGE", help="Run this stage and those that it reads; repeats.")
@_command.manual_dir
@_command.seed
@_command.offline
@click.option(
    "--out",
    type=_command.FilePath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Output folder: a folder for each stage, and report.html.  [default: reproduction/DATASET]",
)
def command(**parameters: Any) -> None:
    """Reproduce the paper: evaluate, mine, attack, augment, retrain, attack again, export, report.

    Each stage is a call of the library, which the report shows. A stage that is done is not done
    again until something that it depends on changes: an option, the weights, the data set, a package.
    The same command goes on where it was stopped. Models whose weights are unavailable are left out.
    """
    from tfface.paper.reproduce import reproduce

    show(reproduce(**parameters, on_result=lambda result: show(result.tables())).tables())
