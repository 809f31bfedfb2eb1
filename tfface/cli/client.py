"""`tfface client embed|verify FILES...`: photographs through a TensorFlow Serving server."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _command
from tfface.cli._command import finish
from tfface.errors import UserError


@click.command(cls=_command.Command)
@click.argument("action", type=click.Choice(["embed", "verify"]))
@click.argument("files", nargs=-1, required=True, type=_command.FilePath(exists=True, dir_okay=False, path_type=Path))
@click.option("--server", metavar="HOST:PORT", help="Address.  [default: localhost:8500, or :8501 for rest]")
@click.option("--protocol", type=click.Choice(["grpc", "rest"]), default="grpc", show_default=True, help="Protocol.")
@click.option("--model", metavar="NAME", help="Model, as the server calls it; the artifact's name if absent.")
@click.option("--version", type=click.IntRange(min=0), help="Version of the model; the highest served if absent.")
@click.option(
    "--artifact",
    type=_command.FilePath(exists=True, path_type=Path),
    metavar="DIR",
    help="The export that is served: gives name, metric and threshold, and the server is checked to answer as it does.",
)
@click.option(
    "--threshold",
    type=_command.Distance(),
    help="For verify: largest distance that matches; the artifact's if absent. Cosine distance without --artifact.",
)
@_command.far
@click.option(
    "--boxes",
    type=_command.FilePath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="Lines image,x,y,width,height: the faces in pixels.",
)
@click.option(
    "--points",
    type=_command.FilePath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="Lines image,x0,y0,...,x4,y4: eyes, nose, corners of the mouth in pixels, left first.",
)
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Photographs in a request.")
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Seconds that each request may take.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Retries of a request to a server that is down, busy or too slow.",
)
@click.option(
    "--out",
    type=_command.FilePath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Output folder: metrics.json, and of embed embeddings.npz.",
)
def command(
    action: str,
    files: tuple[Path, ...],
    threshold: float | None,
    far: float | None,
    out: Path | None,
    **parameters: Any,
) -> None:
    """Embed photographs, or verify a pair, through a served SavedModel.

    FILES are sent as they are; the server decodes and crops them. A photograph that cannot be used
    is named and counted. A server does not tell its threshold: verify takes it from --artifact or
    --threshold.
    """
    from tfface.serving.calls import embed, verify

    if action == "verify":
        if len(files) != 2:
            raise UserError(f"client verify takes two photographs, not {len(files)}")
        finish(verify(*files, threshold=threshold, far=far, **parameters), out)
    else:
        for name, value in (("threshold", threshold), ("far", far)):
            if value is not None:
                raise UserError(f"`{name}` goes with client verify")
        finish(embed(files, **parameters), out)
