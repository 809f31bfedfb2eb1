"""One value or several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def as_list(value: Any) -> list[Any]:
    """Return a list of what may be one value, several, or None for none.

    >>> as_list("facenet"), as_list(("a", "b")), as_list(None)
    (['facenet'], ['a', 'b'], [])
    """
    if value is None:
        return []
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes | Path)
    return list(value) if several and not hasattr(value, "keys") else [value]
