"""Progress of long work, and tables."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table

logger = logging.getLogger(__name__)
T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 15.0


def progress(items: Iterable[T], *, total: int, label: str, unit: str = "images", done: int = 0) -> Iterator[T]:
    """Yields the items, with a bar on a terminal and a line now and then elsewhere.

    Args:
        items: what to go through.
        total: how many items there are, those done earlier included.
        label: what is being done, as a gerund.
        unit: what an item is.
        done: how many were done before (a resumed run).
    """
    if sys.stderr.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total, completed=done)
            for item in items:
                yield item
                bar.advance(task)
        return
    last = time.monotonic()
    for count, item in enumerate(items, start=done + 1):
        yield item
        if count < total and time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            logger.info(f"{label}: {count} of {total} {unit}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Prints a table on stdout; the first column is text, the rest are aligned right."""
    table = Table(title=title or None, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width: give the table all it needs instead of folding it at 80.
    width = None if sys.stdout.isatty() else 200
    # A cell is text as it stands: a file called `me[red].jpg` is not markup.
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)
