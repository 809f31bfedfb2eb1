"""Plug-ins by file name and packages' names, imported when they are first used: so the command line's help stays fast.

The file `tfface/models/facenet.py` is the model `facenet`; files that begin with `_` are no plug-ins.
"""

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

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


def attach(package: str, names: Mapping[str, str], modules: Sequence[str] = ()) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package whose names are imported when they are first used (PEP 562).

    Args:
        package: the package's `__name__`.
        names: public name to the module that defines it; `module:name` where it has another name there.
        modules: submodules that may be reached as attributes.
    """

    def get(name: str) -> Any:
        if name in names:
            module, _, own = names[name].partition(":")
            found = importlib.import_module(module)
            return found if own == "*" else getattr(found, own or name)
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        near = difflib.get_close_matches(name, [*names, *modules], n=3)
        hint = f"; near names: {', '.join(near)}" if near and not name.startswith("__") else ""
        raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}", name=name)

    return get
