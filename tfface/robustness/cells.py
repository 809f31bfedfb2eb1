"""Results too small for a store of rows: one JSON file each, whole or absent."""

from collections.abc import Callable
from typing import Any

from tfface.utils.files import cache_dir, digest_of, lock, read_json, write_json


def kept(kind: str, fingerprint: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `compute` gave before for the same fingerprint, else what it gives now.

    Args:
        kind: the folder of the cache that it lives in.
        fingerprint: JSON-able; all that the result depends on.
        compute: makes it, JSON-able.
    """
    path = cache_dir(kind) / f"{digest_of(fingerprint)}.json"
    with lock(path):
        if not path.exists():
            write_json(path, compute())
    found: dict[str, Any] = read_json(path)
    return found
