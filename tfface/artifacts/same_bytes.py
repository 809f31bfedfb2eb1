"""The same model, the same bytes: takes out of a SavedModel what only tells when it was written.

TensorFlow numbers the functions of a process as it traces them, lists them in the order of a hash
table, and signs what it writes with a random identifier. None of it is part of the model, and all of
it would change an artifact's hash each time that it is exported.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tensorflow.core.protobuf import saved_model_pb2

_NUMBERED = re.compile(r"(.+)_(\d+)")
_ARGUMENT = "_user_specified_name"
"""An attribute of placeholders; of a captured variable its number."""


def settle(folder: Path) -> None:
    """Rewrites a SavedModel, just written by `tf.saved_model.save`, without traces of the process that wrote it.

    Functions are numbered anew by name, in the order in which they were traced. The fingerprint, which
    TensorFlow does not ask for, is of the former bytes and goes.

    Args:
        folder: the SavedModel.
    """
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in model.meta_graphs:
        functions = graph.graph_def.library.function
        _rename(graph, _renaming([function.signature.name for function in functions]))
        ordered = sorted((type(function).FromString(function.SerializeToString()) for function in functions), key=_name)
        del functions[:]
        functions.extend(ordered)
        nodes = [*graph.graph_def.node, *(node for function in functions for node in function.node_def)]
        arguments = [argument for function in functions for argument in function.arg_attr.values()]
        for part in [*nodes, *arguments]:
            if _ARGUMENT in part.attr and part.attr[_ARGUMENT].s.isdigit():
                del part.attr[_ARGUMENT]
    path.write_bytes(model.SerializeToString(deterministic=True))
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def _name(function: Any) -> str:
    return str(function.signature.name)


def _renaming(names: list[str]) -> Callable[[str], str]:
    """Numbers from 0 within each stem, in the order of the old ones; other names may hold such a name as a part."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            numbers[match[1]].append(int(match[2]))
    new = {
        f"{stem}_{old}": f"{stem}_{place}" for stem, olds in numbers.items() for place, old in enumerate(sorted(olds))
    }
    longest_first = sorted(new, key=len, reverse=True)
    pattern = re.compile(rf"({'|'.join(map(re.escape, longest_first))})(?!\d)")
    return lambda text: pattern.sub(lambda match: new[match[1]], text) if new else text


def _rename(message: Message, rename: Callable[[str], str]) -> None:
    """Every string of a message, however deep."""
    for field, value in message.ListFields():
        if _is_map(field):
            _rename_map(field, value, rename)
        elif field.message_type:
            for part in value if field.is_repeated else [value]:
                _rename(part, rename)
        elif field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                value[:] = [rename(text) for text in value]
            else:
                setattr(message, field.name, rename(value))


def _rename_map(field: FieldDescriptor, entries: Any, rename: Callable[[str], str]) -> None:
    """Keys and values alike."""
    holds_messages = field.message_type.fields_by_name["value"].message_type is not None
    kept = {key: _copied(value) if holds_messages else value for key, value in entries.items()}
    entries.clear()
    for key, value in kept.items():
        name = rename(key) if isinstance(key, str) else key
        if holds_messages:
            _rename(value, rename)
            entries[name].CopyFrom(value)
        else:
            entries[name] = rename(value) if isinstance(value, str) else value


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _copied(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
