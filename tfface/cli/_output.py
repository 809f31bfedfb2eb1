"""What a person sees: tables on stdout, the library's log on stderr, errors in terms of options."""

import logging
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from tfface.utils.result import Result, Table


class _Stderr(logging.Handler):
    """Writes what the library logs as lines on stderr, so that stdout stays for results."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"tfface: {in_options(self.format(record))}", file=sys.stderr, flush=True)


def log_to_stderr() -> None:
    """Show the library's log on stderr."""
    logger = logging.getLogger("tfface")
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())
        logger.setLevel(logging.INFO)
        logger.propagate = False


def in_options(message: str) -> str:
    """Write the options of the command at work where a message names parameters in backticks."""
    context = click.get_current_context(silent=True)
    options = {} if context is None else {param.name: _spelled(param) for param in context.command.params}
    return re.sub(r"`(\w+)`", lambda found: options.get(found[1], found[0]), message)


def _spelled(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else str(param.name).upper()


def finish(result: Result, out: Path | None) -> None:
    """Print a result's tables, and write its files if a folder is given."""
    show(result.tables())
    if out:
        click.echo(f"wrote {', '.join(result.save(out))} in {out}")


def show(tables: Iterable[Table]) -> None:
    """Print tables on stdout."""
    for table in tables:
        if table.columns:
            print_table(table.columns, table.rows, title=table.title)
        for note in table.notes:
            click.echo(f"Note: {in_options(note)}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table on stdout; the first column is text, the rest are aligned right."""
    from rich import table as rich_table
    from rich.console import Console

    table = rich_table.Table(title=title or None, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width: give the table all it needs instead of folding it at 80.
    width = None if sys.stdout.isatty() else 200
    # A cell is text as it stands: a file called `me[red].jpg` is not markup.
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)
