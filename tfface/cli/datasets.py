"""`python cli.py datasets`: list, prepare, describe data sets."""

from pathlib import Path
from typing import Any

import click

from tfface.cli import _options, _output


@click.group("datasets")
def command() -> None:
    """Lists, prepares and describes data sets."""


@command.command("list")
def list_() -> None:
    """Lists every data set and configuration: its size, whether it is prepared, where it comes from."""
    from tfface import data

    rows = []
    for name in data.names():
        default = data.describe(name)
        for config in default["configs"] or [""]:
            facts = data.describe(f"{name}/{config}") if config else default
            label = facts["name"] + (" (default)" if config and facts["name"] == default["name"] else "")
            state = "prepared" if facts["prepared"] else "not prepared"
            rows.append([label, f"{facts['images']:,}", f"{facts['people']:,}", state, facts["source"]])
    _output.print_table(["data set", "images", "people", "state", "where from"], rows)


@command.command()
@click.argument("name")
@_options.manual_dir
@_options.offline
def prepare(name: str, manual_dir: Path | None, offline: bool) -> None:
    """Prepares the data set NAME (five_faces, lfw, lfw/funneled ...), unless it is, and describes it."""
    from tfface import data

    data.prepare(name, manual_dir=manual_dir, offline=offline)
    _print_counts(data.describe(name))


@command.command()
@click.argument("name")
def describe(name: str) -> None:
    """Describes the data set NAME, or a folder with one subfolder of images per person."""
    from tfface import data

    facts = data.describe(name)
    _print_counts(facts)
    for label in ("source", "folder", "licence", "homepage"):
        if facts.get(label):
            click.echo(f"{label}: {facts[label]}")
    if facts.get("citation"):
        click.echo(f"\n{facts['citation']}")


def _print_counts(facts: dict[str, Any]) -> None:
    rows = [
        ["version", facts["version"]],
        ["images", f"{facts['images']:,}"],
        ["people", f"{facts['people']:,}"],
        ["people with two or more", _count(facts["people_with_two_or_more"])],
        *([f"pairs of {name}", _pairs(counts)] for name, counts in facts["pair_sets"].items()),
    ]
    _output.print_table([facts["name"], ""], rows)


def _count(number: int | None) -> str:
    return "known once prepared" if number is None else f"{number:,}"


def _pairs(counts: dict[str, int] | None) -> str:
    if counts is None:
        return "not at hand"
    return f"{counts['pairs']:,}" + (f" in {counts['folds']} folds" if counts["folds"] > 1 else "")
