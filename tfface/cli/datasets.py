"""`tfface datasets list|prepare|describe`: data sets."""

from pathlib import Path

import click

from tfface.cli import _command
from tfface.cli._command import show


@click.group("datasets", cls=_command.Group)
def command() -> None:
    """List, prepare and describe data sets."""


@command.command("list")
def list_() -> None:
    """List every data set and configuration: its size, whether it is prepared, where it comes from."""
    from tfface.data.catalogue import list_datasets

    show(list_datasets().tables())


@command.command()
@click.argument("name")
@_command.manual_dir
@_command.offline
def prepare(name: str, manual_dir: Path | None, offline: bool) -> None:
    """Prepare the data set NAME (five_faces, lfw, lfw/funneled ...), unless it is prepared, and describe it."""
    from tfface.data.catalogue import prepare_dataset

    show(prepare_dataset(name, manual_dir=manual_dir, offline=offline).tables())


@command.command()
@click.argument("name")
def describe(name: str) -> None:
    """Describe the data set NAME, or a folder with one subfolder of images per person."""
    from tfface.data.catalogue import describe_dataset

    found = describe_dataset(name)
    show(found.tables())
    for label in ("source", "folder", "licence", "homepage"):
        if found.facts.get(label):
            click.echo(f"{label}: {found.facts[label]}")
    if found.facts.get("citation"):
        click.echo(f"\n{found.facts['citation']}")
