"""`tfface weights`: list, fetch, check the weights of every preset."""

from pathlib import Path

import click

from tfface.cli import _command
from tfface.cli._command import show
from tfface.errors import UserError


@click.group(cls=_command.Group)
def command() -> None:
    """List, fetch and check the weights of the presets."""


@command.command("list")
def list_() -> None:
    """List every preset: the state of its weights, their hash, sources and licence."""
    from tfface.models._inventory import list_presets

    show(list_presets().tables())


@command.command()
@click.argument("name")
@click.option("--from", "file", type=_command.FilePath(path_type=Path), metavar="FILE", help="Take this copy.")
@_command.offline
def fetch(name: str, file: Path | None, offline: bool) -> None:
    """Fetch the weights of a preset (facenet/msceleb), or take the copy at --from."""
    from tfface.models._inventory import fetch_weights

    found = fetch_weights(name, file=file, offline=offline)
    click.echo(f"{found.preset}: {found.path} sha256 {found.sha256}")


@command.command()
@click.argument("names", nargs=-1)
def check(names: tuple[str, ...]) -> None:
    """Check the weights at hand: their hash, and that they load into their network."""
    from tfface.models._inventory import check_weights

    result = check_weights(names)
    show(result.tables())
    if result.problems:
        raise UserError(f"{'; '.join(result.problems)}: fetch them with tfface weights fetch NAME")
