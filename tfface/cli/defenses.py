"""`python cli.py defenses`: what can stand before a model, and with which options."""

import click


@click.command()
def command() -> None:
    """Lists the defenses: options with their ranges and defaults, and what an attacker may know of them."""
    from tfface.augmentation import describe
    from tfface.utils import registry
    from tfface.utils.progress import print_table

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
