"""Names with a number, `NAME:number`: their meaning and range."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from tfface.errors import UserError
from tfface.utils import registry


@dataclass(frozen=True)
class Level:
    """Meaning and range of the number after a name.

    Attributes:
        unit: of the number, as help and errors show it.
        low: the least that is taken.
        high: the most; where it is not above `low`, the name takes no number.
        default: where none is given; None: one must be.
        whole: only whole numbers are taken.
    """

    unit: str
    low: float = 0.0
    high: float = 0.0
    default: float | None = None
    whole: bool = False

    @property
    def takes_number(self) -> bool:
        return self.high > self.low

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} {self.unit}" if self.takes_number else self.unit


def parse(what: str, text: str, levels: Mapping[str, Level]) -> tuple[str, float]:
    """Parse a name and its number.

    Args:
        what: what is named, for the error (`corruption`).
        text: `NAME:number`, or `NAME` where the number has a default.
        levels: by name.

    Raises:
        UserError: no such name, no number where one is needed, or one out of range.
    """
    name, colon, number = (part.strip() for part in text.partition(":"))
    if name not in levels:
        raise UserError(f"{registry.unknown(what, name, list(levels))}; each with its number: {describe(levels)}")
    level = levels[name]
    if not colon and level.default is not None:
        return name, level.default
    if not level.takes_number:
        raise UserError(f"{what} {text!r}: {name} takes no number")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not level.low <= value <= level.high or (level.whole and value != int(value)):
        raise UserError(f"{what} {text!r}: {name} takes a {'whole ' * level.whole}number, {level}")
    return name, value


def describe(levels: Mapping[str, Level]) -> str:
    """Describe the names with their numbers, on one line."""
    parts = []
    for name, level in levels.items():
        default = f", else {level.default:g}" if level.takes_number and level.default is not None else ""
        parts.append(f"{name} ({level}{default})")
    return ", ".join(parts)


def key_number(key: str) -> int:
    """Return the number that an image draws by: of its key alone, whatever else is in the data set."""
    return zlib.crc32(key.encode())
