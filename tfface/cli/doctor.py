"""`tfface doctor`: what is installed, cached and reachable."""

import click

from tfface.cli import _options
from tfface.cli._output import show


@click.command(cls=_options.Command)
@_options.offline
def command(offline: bool) -> None:
    """List what is installed, cached and reachable, and what each model and data set would use."""
    from tfface.models._inventory import doctor

    show(doctor(offline=offline).tables())
