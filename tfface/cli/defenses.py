"""`tfface defenses`: input defenses and their options."""

import click

from tfface.cli import _command
from tfface.cli._command import show


@click.command(cls=_command.Command)
def command() -> None:
    """List the defenses: options with their ranges and defaults, and what an attacker may know of them."""
    from tfface.defenses._defense import list_defenses

    show(list_defenses().tables())
