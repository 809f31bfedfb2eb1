"""Stages that read what others wrote: one command each, named by everything that its result depends on."""

import functools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfface.utils import registry
from tfface.utils.files import digest_of


@dataclass(frozen=True)
class Place:
    """A file or folder that a stage writes.

    Attributes:
        stage: whose folder it is in; empty: beside the stages' folders.
        path: in that folder; empty for the folder itself.
    """

    stage: str
    path: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, [self.stage, self.path]))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of a reproduction.

    Attributes:
        name: of the stage and, after its number, of its folder.
        command: of `cli.py`.
        arguments: its command line, without what changes no result (`settings`).
        facts: JSON-able; what its result depends on besides: weights, the data set's version.
        settings: further arguments that change no result, as `--offline`.
        measures: it writes `metrics.json`.
        writes: files that it writes outside of its folder.
        after: stages whose results it reads without naming a file of theirs.
    """

    name: str
    command: str
    arguments: Sequence["str | Place"]
    facts: Mapping[str, Any] = field(default_factory=dict)
    settings: Sequence[str] = ()
    measures: bool = True
    writes: Sequence[Place] = ()
    after: Sequence[str] = ()

    @property
    def reads(self) -> list[str]:
        """The stages whose results it reads, each once."""
        places = [part.stage for part in self.arguments if isinstance(part, Place)]
        return [name for name in dict.fromkeys([*self.after, *places]) if name not in ("", self.name)]


@dataclass(frozen=True)
class Stages:
    """All stages, each after those that it reads.

    Attributes:
        out: the folder of all.
        stages: in their order.
        versions: of the packages that every result depends on.
    """

    out: Path
    stages: Sequence[Stage]
    versions: Mapping[str, str]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def folder(self, name: str) -> Path:
        """A stage's own: its number and name."""
        number = next(number for number, stage in enumerate(self.stages, start=1) if stage.name == name)
        return self.out / f"{number}-{name}"

    def located(self, place: Place) -> Path:
        """Where a place is on the disk."""
        return (self.folder(place.stage) if place.stage else self.out) / place.path

    def command_line(self, stage: Stage) -> list[str]:
        """A stage's arguments as `cli.py` takes them after the command's name."""
        parts = (part if isinstance(part, str) else str(self.located(part)) for part in stage.arguments)
        return [*parts, *stage.settings]

    def spoken(self, stage: Stage) -> str:
        """The whole line, as one would type it."""
        return shlex.join(["python", "cli.py", stage.command, *self.command_line(stage)])

    @functools.cached_property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """By stage, JSON-able: all that its result depends on; of what it reads the digest of their own.

        Places are named by their stage, so that the whole may be moved.
        """
        found: dict[str, dict[str, Any]] = {}
        for stage in self.stages:
            found[stage.name] = {
                "command": stage.command,
                "arguments": [str(part) for part in stage.arguments],
                **stage.facts,
                "versions": dict(self.versions),
                "reads": {name: digest_of(found[name]) for name in stage.reads},
            }
        return found

    def needed_for(self, names: Iterable[str]) -> list[Stage]:
        """The named stages and all that these read, in order; all stages where none is named.

        Raises:
            UserError: there is no such stage.
        """
        by_name = {stage.name: stage for stage in self.stages}
        wanted, open_ends = set(), list(names) or list(by_name)
        while open_ends:
            name = open_ends.pop()
            if name not in by_name:
                raise registry.unknown("stage", name, list(by_name))
            if name not in wanted:
                wanted.add(name)
                open_ends += by_name[name].reads
        return [stage for stage in self.stages if stage.name in wanted]
