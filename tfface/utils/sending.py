"""What of an object goes to another process."""

import dataclasses
from typing import Any


def fields_of(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass without what it has cached: its state as it is sent to another process."""
    return {entry.name: getattr(instance, entry.name) for entry in dataclasses.fields(instance)}
