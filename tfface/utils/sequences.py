"""One value or several; their natural order."""

import re
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


def natural_key(path: str) -> tuple[list[list[int | str]], str]:
    """Return a key that sorts `s2/10.png` after `s2/9.png`, and a person's images together; ties by the text itself.

    >>> sorted(["s2/10.png", "s10/1.png", "s2/9.png"], key=natural_key)
    ['s2/9.png', 's2/10.png', 's10/1.png']
    """
    parts = [
        [int(piece) if index % 2 else piece for index, piece in enumerate(re.split(r"(\d+)", part))]
        for part in path.split("/")
    ]
    return parts, path
