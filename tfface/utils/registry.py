"""Plug-ins by file name: found without importing them, so `--help` stays fast.

A file `tfface/models/facenet.py` is the model `facenet`; one that begins with `_` is no plug-in. A name that no file
bears is an error that lists those that do.
"""

import difflib
import importlib
from pathlib import Path
from types import ModuleType

from tfface.errors import UserError

_PACKAGE = Path(__file__).parents[1]

_SINGULAR = {"cli": "command"}


def names(kind: str) -> list[str]:
    """The names of all plug-ins of a kind (`models`, `attacks`, ...), sorted."""
    return sorted(path.stem for path in (_PACKAGE / kind).glob("*.py") if not path.stem.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """Imports a plug-in's module.

    Raises:
        UserError: no file of that kind has that name.
    """
    if name not in names(kind):
        raise unknown(_SINGULAR.get(kind, kind.rstrip("s")), name, names(kind))
    return importlib.import_module(f"tfface.{kind}.{name}")


def unknown(kind: str, name: str, valid: list[str]) -> UserError:
    """The error for a name that is none of the valid ones."""
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return UserError(f"unknown {kind} {name!r}{hint}; valid: {', '.join(valid)}")
