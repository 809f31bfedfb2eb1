"""`tfface report DIR...`: one HTML page of what other commands wrote."""

from pathlib import Path

import click

from tfface.cli import _command


@click.command(cls=_command.Command)
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="DIR...",
    type=_command.FilePath(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--out",
    type=_command.FilePath(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="HTML file.",
)
def command(folders: tuple[Path, ...], out: Path) -> None:
    """Write one HTML page of the results in or below folders.

    Each DIR is the --out of evaluate, mine, attack, retrain, distill or export, or holds some of
    those. The page needs nothing beside itself: no network, no further file.
    """
    from tfface.report.page import write_report

    page = write_report(folders, out)
    click.echo(f"wrote {page.path}: {page.runs} {'run' if page.runs == 1 else 'runs'}, {page.bytes / 1e6:.1f} MB")
