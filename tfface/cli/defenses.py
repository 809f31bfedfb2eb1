"""`python cli.py defenses`: what can stand before a model, and with which options."""

import click

from tfface.cli import _options


@click.command(cls=_options.Command)
def command() -> None:
    """Lists the defenses: options with their ranges and defaults, and what an attacker may know of them."""
    from tfface.augmentation.levels import describe
    from tfface.cli._output import print_table
    from tfface.utils import registry

    words = {True: "yes", False: "no"}
    kinds = {name.replace("_", "-"): registry.load("defenses", name).DEFENSE for name in registry.names("defenses")}
    print_table(
        ["defense", "what it is", "deterministic", "differentiable", "options"],
        [
            [name, kind.title, words[kind.deterministic], words[kind.differentiable], describe(kind.options) or "-"]
            for name, kind in kinds.items()
        ],
    )
    for name, kind in kinds.items():
        click.echo(f"{name}: {kind.paper}")
