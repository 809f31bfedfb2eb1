"""`tfface verify A.jpg B.jpg`: do two photographs show one person?"""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish


@click.command(cls=_command.Command)
@click.argument("first", type=_command.FilePath(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=_command.FilePath(exists=True, dir_okay=False, path_type=Path))
@_command.embedder
@_command.artifact
@_command.boxes
@_command.points
@_command.recipe
@_command.flip
@click.option("--threshold", type=_command.Distance(), help="Distances up to it match; the preset's if absent.")
@_command.far
@click.option(
    "--face",
    multiple=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Take the N-th face from the left of a photograph that shows several; twice: one for each photograph.",
)
@_command.offline
@_command.out
def command(
    embedder: str,
    artifact: Path | None,
    boxes: Path | None,
    points: Path | None,
    face: tuple[int, ...],
    offline: bool,
    out: Path | None,
    **parameters: Any,
) -> None:
    """Verify whether two photographs show one person: distance, threshold, verdict."""
    from tfface.artifacts import photographs
    from tfface.evaluation.verify import verify

    _command.check_given(artifact, boxes=boxes, points=points)
    _command.check_found(artifact, face=face)
    if artifact:
        finish(photographs.verify(artifact, boxes=boxes, points=points, **parameters), out)
    else:
        finish(verify(embedder, face=face, offline=offline, **parameters), out)
