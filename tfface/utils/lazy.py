"""Names of a package that are imported when they are first used (PEP 562)."""

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def attach(package: str, names: Mapping[str, str], modules: Sequence[str] = ()) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package.

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
