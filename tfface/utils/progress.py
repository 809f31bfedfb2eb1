"""Progress of long work."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 15.0


def progress(items: Iterable[T], *, total: int, label: str, unit: str = "images", done: int = 0) -> Iterator[T]:
    """Iterate with a progress bar on a terminal, and with a line in the log now and then elsewhere.

    Args:
        items: the items.
        total: number of items, those done earlier included.
        label: title, as a gerund.
        unit: plural of an item.
        done: number of items done before (a resumed run).
    """
    if sys.stderr.isatty():
        from rich.console import Console
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
