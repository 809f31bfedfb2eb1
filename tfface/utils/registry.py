"""Plug-ins by file name: found without importing them, so that the help of the command line stays fast.

The file `tfface/models/facenet.py` is the model `facenet`; files that begin with `_` are no plug-ins.
"""

import difflib
import importlib
from pathlib import Path
from types import ModuleType

from tfface.errors import UserError

_PACKAGE = Path(__file__).parents[1]

_SINGULAR = {"cli": "command"}


def names(kind: str) -> list[str]:
    """Return the names of all plug-ins of a kind (`models`, `attacks`, ...), sorted."""
    return sorted(path.stem for path in (_PACKAGE / kind).glob("*.py") if not path.stem.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """Import a plug-in's module.

    Raises:
        UserError: no file of that kind has that name.
    """
    if name not in names(kind):
        raise unknown(_SINGULAR.get(kind, kind.rstrip("s")), name, names(kind))
    return importlib.import_module(f"tfface.{kind}.{name}")


def unknown(kind: str, name: str, valid: list[str], *, parameter: str = "") -> UserError:
    """Return the error for a name that is not among the valid ones."""
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return UserError(f"unknown {kind} {name!r}{hint}; valid: {', '.join(valid)}", parameter=parameter)
