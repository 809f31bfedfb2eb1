"""Options are the parameters of a public function, with the same defaults."""

import inspect
from collections.abc import Callable
from typing import Any

import click
import pytest

import tfface
from tfface.utils import registry

# Command to public function, where they are not called the same.
FUNCTIONS = {
    "client": "serving.embed",
    "datasets describe": "describe_dataset",
    "datasets list": "list_datasets",
    "datasets prepare": "prepare_dataset",
    "defenses": "list_defenses",
    "golden": "check_golden",
    "report": "write_report",
    "weights check": "check_weights",
    "weights fetch": "fetch_weights",
    "weights list": "list_presets",
}
# A command's own: the folder of results, and what sends it to another function.
OWN = {
    "*": {"out"},
    "client": {"action", "far", "files", "threshold"},
    "embed": {"artifact", "boxes", "points"},
    "verify": {"artifact", "boxes", "points"},
}


def commands() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name in registry.names("cli"):
        command, spelled = registry.load("cli", name).command, name.replace("_", "-")
        if isinstance(command, click.Group):
            found.update({f"{spelled} {part}": entry for part, entry in command.commands.items()})
        else:
            found[spelled] = command
    return found


COMMANDS = commands()
# Parameters that a command fills in by itself.
FILLED = {"distill": {"made_by"}, "reproduce": {"on_result"}}


def function_of(name: str) -> Callable[..., Any]:
    found: Any = tfface
    for part in FUNCTIONS.get(name, name.replace("-", "_")).split("."):
        found = getattr(found, part)
    return found


def default_of(option: click.Parameter) -> Any:
    """What the command passes if nothing is given."""
    with click.Context(click.Command("any")) as context:
        value = option.process_value(context, option.get_default(context))
    # click marks the absence of a default by an object of its own.
    return None if type(value).__module__.startswith("click") else value


def plain(value: Any) -> Any:
    """One name and a sequence of it are the same, also with commas; nothing and an empty sequence; paths and texts."""
    if value is None or value in ((), [], ""):
        return None
    value = value.split(",") if isinstance(value, str) else value
    values = list(value) if isinstance(value, list | tuple) else [value]
    return [entry if isinstance(entry, bool | int | float) else str(entry) for entry in values]


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_parameters_with_the_same_defaults(name):
    function = function_of(name)
    parameters = inspect.signature(function).parameters
    own = OWN["*"] | OWN.get(name, set())
    differ = {}
    for option in COMMANDS[name].params:
        if option.name in own - set(parameters):
            continue
        assert option.name in parameters, f"{option.opts[-1]} is no parameter of {function.__name__}()"
        expected = parameters[option.name].default
        if not option.required and expected is not inspect.Parameter.empty:
            theirs, ours = plain(default_of(option)), plain(expected)
            if theirs != ours:
                differ[option.name] = f"{theirs} on the command line, {ours} in {function.__name__}()"
    assert differ == {}


@pytest.mark.parametrize("name", COMMANDS)
def test_parameters_are_options(name):
    options = {option.name for option in COMMANDS[name].params}
    parameters = inspect.signature(function_of(name)).parameters.values()
    optional = {entry.name for entry in parameters if entry.default is not inspect.Parameter.empty}
    assert optional - options == FILLED.get(name, set())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_an_imperative(name):
    first = (COMMANDS[name].help or "").split("\n\n")[0]
    assert first.split(" ")[0].isalpha(), first
    assert first[0].isupper(), first
    assert not first.startswith(("What", "Who", "Whether", "Which", "How", "Where")), first
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.opts[-1]} has no help"
            assert not option.help.startswith(("What ", "Who ", "Whether ", "How ", "Where ")), option.help
