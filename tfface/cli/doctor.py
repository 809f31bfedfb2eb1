"""`tfface doctor`: what is installed, cached and reachable."""

import click

from tfface.cli import _command
from tfface.cli._command import show


@click.command(cls=_command.Command)
@_command.offline
def command(offline: bool) -> None:
    """List what is installed, cached and reachable, and what each model and data set would use."""
    from tfface.models._inventory import doctor

    show(doctor(offline=offline).tables())
