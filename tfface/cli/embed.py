"""`tfface embed FOLDER --out x.npz`: the embeddings of a folder of photographs."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.errors import UserError


@click.command(cls=_command.Command)
@click.argument("folder", type=_command.FilePath(exists=True, file_okay=False, path_type=Path))
@_command.embedder
@_command.artifact
@_command.boxes
@_command.points
@_command.recipe
@_command.flip
@click.option(
    "--out",
    required=True,
    type=_command.FilePath(dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="Output file.",
)
@click.option("--strict", is_flag=True, help="Stop if a photograph fails, instead of counting it.")
@_command.offline
@_command.cluster
def command(
    embedder: str,
    artifact: Path | None,
    boxes: Path | None,
    points: Path | None,
    offline: bool,
    cluster: str | None,
    out: Path,
    **parameters: Any,
) -> None:
    """Embed every photograph under FOLDER into one .npz file.

    Its arrays: keys (paths below FOLDER), embeddings (N, D), failed_keys and failed_reasons,
    preset, weights_sha256, recipe; with --artifact artifact_sha256. Plain arrays: numpy.load reads it
    with allow_pickle=False.
    """
    if out.suffix != ".npz":
        raise UserError(f"`out` {out} must end in .npz", parameter="out")
    _command.check_given(artifact, boxes=boxes, points=points)
    if cluster and artifact:
        raise UserError("`cluster` goes with `embedder`: an artifact answers on this machine", parameter="cluster")
    from tfface.artifacts import photographs
    from tfface.evaluation.embeddings import embed

    if artifact:
        found = photographs.embed(artifact, boxes=boxes, points=points, **parameters)
    else:
        found = embed(embedder=embedder, offline=offline, cluster=cluster, **parameters)
    found.write(out)
    click.echo(f"wrote {out}: {found}")
