"""Dataclasses as configurations of functions, and as state that is sent to another process."""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from tfface.errors import UserError

T = TypeVar("T")


def configured(config: type) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Let a function take the fields of a dataclass as keyword arguments.

    The function's last parameter, `config`, gets the dataclass. The signature and the docstring that users see list
    its fields, which the dataclass documents under `Attributes:`.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config:
        ...     seed: int = 0
        >>> @configured(Config)
        ... def draw(name, config):
        ...     return name, config.seed
        >>> draw("a", seed=3)
        ('a', 3)
    """
    known = [field.name for field in dataclasses.fields(config)]

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        signature = inspect.signature(function)
        own = [parameter for name, parameter in signature.parameters.items() if name != "config"]

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> T:
            given = {name: options.pop(name) for name in known if name in options}
            for name in options:
                if name not in signature.parameters or name == "config":
                    raise _unknown(function.__name__, name, [*(entry.name for entry in own), *known])
            return function(*args, config=config(**given), **options)

        fields = inspect.signature(config).parameters.values()
        keywords = [field.replace(kind=inspect.Parameter.KEYWORD_ONLY) for field in fields]
        call.__signature__ = signature.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined]
        call.__doc__ = _with_fields(inspect.getdoc(function) or "", inspect.getdoc(config) or "")
        return call

    return decorate


def fields_of(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass without cached properties: its state as another process gets it."""
    return {entry.name: getattr(instance, entry.name) for entry in dataclasses.fields(instance)}


def _unknown(function: str, name: str, valid: list[str]) -> UserError:
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return UserError(f"{function}() takes no parameter {name!r}{hint}; it takes {', '.join(valid)}", parameter=name)


def _with_fields(text: str, fields: str) -> str:
    """Append the attributes of the configuration to the section `Args:` of a docstring."""
    _, _, listed = fields.partition("Attributes:\n")
    listed = listed.split("\n\n")[0].rstrip()
    before, args, after = text.partition("Args:\n")
    if not args:
        return f"{text}\n\nArgs:\n{listed}" if listed else text
    own, blank, rest = after.partition("\n\n")
    return f"{before}{args}{own.rstrip()}\n{listed}{blank}{rest}"
