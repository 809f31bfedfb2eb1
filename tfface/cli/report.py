"""`python cli.py report DIR...`: one HTML page of what other commands wrote."""

from pathlib import Path

import click

from tfface.cli import _options


@click.command(cls=_options.Command)
@click.argument(
    "folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="The page.",
)
def command(folders: tuple[Path, ...], out: Path) -> None:
    """Gathers the results in or below folders into one HTML page.

    Each DIR is the --out of evaluate, mine, attack, retrain, distill or export, or holds some of
    those. The page needs nothing beside itself: no network, no further file.
    """
    from tfface.report.page import build

    count = build(folders, out)
    click.echo(f"wrote {out}: {count} {'run' if count == 1 else 'runs'}, {out.stat().st_size / 1e6:.1f} MB")
