"""Plug-ins by file name: found without importing them, so `--help` stays fast.

A file `tfface/models/facenet.py` is the model `facenet`. A name that no file bears is an
error that lists those that do.
"""

import difflib
import importlib
from pathlib import Path
from types import ModuleType

from tfface.errors import UserError

_PACKAGE = Path(__file__).parent
# Files in a plug-in folder that are not plug-ins themselves.
_SHARED = {
    "__init__",
    "base",
    *("external", "h5", "layers", "losses", "low_rank"),
    *("batch", "bracket", "checks", "files", "goals", "loop", "minimal", "norms", "stepwise", "transfer"),
    *("dct", "detection", "randomness", "stack"),
}


def names(kind: str) -> list[str]:
    """The names of all plug-ins of a kind (`models`, `attacks`, ...), sorted."""
    return sorted(path.stem for path in (_PACKAGE / kind).glob("*.py") if path.stem not in _SHARED)


def load(kind: str, name: str) -> ModuleType:
    """Imports a plug-in's module.

    Raises:
        UserError: no file of that kind has that name.
    """
    if name not in names(kind):
        raise unknown(kind.rstrip("s"), name, names(kind))
    return importlib.import_module(f"tfface.{kind}.{name}")


def unknown(kind: str, name: str, valid: list[str]) -> UserError:
    """The error for a name that is none of the valid ones."""
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return UserError(f"unknown {kind} {name!r}{hint}; valid: {', '.join(valid)}")
