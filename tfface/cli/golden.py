"""`tfface golden ARTIFACT`: check that a copy of an artifact is what was exported, and answers the same."""

from pathlib import Path

import click

from tfface.cli import _command
from tfface.cli._command import finish
from tfface.errors import UserError


@click.command(cls=_command.Command)
@click.argument("artifact", type=_command.FilePath(exists=True, path_type=Path))
@click.option(
    "--golden",
    type=_command.FilePath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="golden.json; the one beside the artifact if absent.",
)
def command(artifact: Path, golden: Path | None) -> None:
    """Check a copy of an artifact: its hash, and its answers to its golden inputs.

    ARTIFACT is a .tflite file or the folder of a SavedModel. A .tflite file is checked without
    TensorFlow.
    """
    from tfface.artifacts.golden import check_golden

    found = check_golden(artifact, golden=golden)
    finish(found, None)
    if not found.passed:
        raise UserError(
            f"{found.artifact.path} answers {', '.join(found.failed)} otherwise than when it was exported: the runtime "
            "or the processor here computes it wrongly"
        )
    click.echo(f"all {len(found.answers)} inputs are answered as when it was exported")
