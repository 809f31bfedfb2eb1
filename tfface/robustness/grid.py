"""Which attacks, in which norms, with which settings: from names and numbers to attack objects."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfface.errors import UserError
from tfface.utils import registry

if TYPE_CHECKING:
    from tfface.attacks._attack import Attack

logger = logging.getLogger(__name__)


def attack_grid(
    names: Sequence[str], norms: Sequence[str], settings: Mapping[str, Any], *, options: Mapping[str, str]
) -> "list[tuple[str, Attack]]":
    """Each attack in each norm; of several, one that does not know a norm is said and passed over there.

    Args:
        names: as `--attack` takes them.
        norms: as `--norm` takes them; none for each attack's own.
        settings: fields of attacks to set, in each attack that has them.
        options: the command line option of each field, for errors.

    Raises:
        UserError: no such attack or norm, a setting that none of the attacks has, or one out of range.
    """
    from tfface.attacks._norms import checked

    for norm in norms:
        checked(norm)
    classes = {name: registry.load("attacks", name).ATTACK for name in dict.fromkeys(names)}
    fields = {name: {field.name for field in dataclasses.fields(kind) if field.init} for name, kind in classes.items()}
    for field in settings:
        if not any(field in known for known in fields.values()):
            raise UserError(f"{', '.join(classes)} takes no {options[field]}: {_takers(field, options[field])}")
    found = []
    for name, kind in classes.items():
        own = {field: value for field, value in settings.items() if field in fields[name]}
        unknown = [norm for norm in norms if norm not in kind.norms]
        for norm in dict.fromkeys(norms):
            if norm in unknown and len(classes) > 1:
                logger.warning(f"{name} knows no norm {norm}: left out there")
                continue
            found.append((name, kind(norm=norm, **own)))
        if not norms:
            found.append((name, kind(**own)))
    if not found:
        raise UserError(f"none of {', '.join(classes)} knows the norm {', '.join(norms)}: choose another")
    return found


def _takers(field: str, option: str) -> str:
    takers = [
        name
        for name in registry.names("attacks")
        if field in {entry.name for entry in dataclasses.fields(registry.load("attacks", name).ATTACK) if entry.init}
    ]
    return f"{option} is of {', '.join(takers)}"
