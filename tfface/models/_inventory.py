"""Inventory: weights of every preset, installed packages, cached files, reachable sources."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfface.data import catalogue
from tfface.errors import Unavailable, UserError
from tfface.hub import weights
from tfface.models._embedder import Preset, all_presets, candidates, load, locate, presets
from tfface.utils import registry
from tfface.utils.files import cache_dir, user_path
from tfface.utils.public import Result, Table

_PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "tensorflow-datasets",
    "mtcnn",
    "opencv-contrib-python-headless",
    "pyarrow",
)
# Package to the extra of tfface that brings it.
_OPTIONAL = {
    "keras-facenet": "peers",
    "deepface": "peers",
    "tensorflow-serving-api": "serving",
    "ray": "cluster",
    "onnxruntime": "onnx",
}


@dataclass(frozen=True)
class Inventory(Result):
    """Tables of facts, each a list of rows.

    Attributes:
        contents: name to rows; each row has the table's columns as keys.
        titles: title of each table; none for most.
        problems: what has to be repaired, in words.
    """

    contents: Mapping[str, Sequence[Mapping[str, str]]]
    titles: Mapping[str, str]
    problems: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        return {name: [dict(row) for row in rows] for name, rows in self.contents.items()}

    def tables(self) -> list[Table]:
        return [
            Table(list(rows[0]), [list(row.values()) for row in rows], title=self.titles.get(name, ""))
            for name, rows in self.contents.items()
            if rows
        ]


@dataclass(frozen=True)
class PresetWeights(Result):
    """Weights of a preset at hand.

    Attributes:
        preset: name of the preset.
        path: the file.
        sha256: its hash.
    """

    preset: str
    path: Path
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        return {"preset": self.preset, "path": str(self.path), "sha256": self.sha256}

    def tables(self) -> list[Table]:
        return [Table(["preset", "file", "sha256"], [[self.preset, str(self.path), self.sha256]])]


def list_presets() -> Inventory:
    """List every preset: the state of its weights, their hash, sources and licence.

    Returns:
        A row for each preset.

    Example:
        >>> import tfface
        >>> {row["preset"] for row in tfface.list_presets().to_dict()["presets"]} >= {"facenet/msceleb"}
        True
    """
    rows = [
        {
            "preset": preset.name,
            "weights": _state(preset),
            "sha256": (preset.sha256 or "recorded at first use")[:21],
            "source": ", ".join(source.describe() for source in preset.sources),
            "licence": preset.licence,
        }
        for preset in all_presets()
    ]
    return Inventory({"presets": rows}, {})


def fetch_weights(name: str, *, file: str | Path | None = None, offline: bool = False) -> PresetWeights:
    """Fetch the weights of a preset into the cache, or take a copy at hand.

    Args:
        name: preset (`facenet/msceleb`); without `file` also an architecture, of which the first that can be had is
            taken.
        file: copy to take instead of fetching one; its hash is checked, and that it loads.
        offline: never touch a network.

    Returns:
        Name of the preset, path and SHA-256 of the weights.

    Raises:
        UserError: there is no such preset, its weights cannot be had, or the copy is another file.

    Example:
        >>> import tfface
        >>> tfface.fetch_weights("facenet/msceleb").sha256[:8]  # doctest: +SKIP
        '6acdd8fb'
    """
    if file is None:
        preset, found = locate(name, offline=offline)
        return PresetWeights(preset.name, found.path, found.sha256)
    if "/" not in name:
        known = ", ".join(preset.name for preset in candidates(name))
        raise UserError(f"name the whole preset: {known}", parameter="name")
    (preset,) = candidates(name)
    given = user_path(file)
    # Loaded before it is cached, since a hash that nobody published is enforced from then on.
    _ = load(preset, weights.inspect(preset.name, preset.file_name, preset.sha256, given)).model
    found = weights.supply(preset.name, preset.file_name, preset.sha256, given)
    return PresetWeights(preset.name, found.path, found.sha256)


def check_weights(names: Sequence[str] = ()) -> Inventory:
    """Check the weights at hand: their hash, and that they load into their network.

    Args:
        names: presets or architectures; all presets by default, whose weights may be absent then.

    Returns:
        A row for each preset; `problems` names those that are damaged, or absent though named.

    Raises:
        UserError: there is no such preset, or weights do not fit their network.
    """
    wanted = [preset for name in names for preset in candidates(name)] if names else list(all_presets())
    rows, problems = [], []
    for preset in wanted:
        state, sha256, parameters = _state(preset), "-", "-"
        if state in ("cached", "bundled"):
            file = weights.obtain(preset.name, preset.file_name, preset.sources, preset.sha256, offline=True)
            sha256, parameters = file.sha256[:16], f"{load(preset, file).model.count_params():,}"
            state = f"{state}, whole"
        elif state == "damaged" or names:
            problems.append(f"{preset.name} is {state}")
        rows.append({"preset": preset.name, "weights": state, "sha256": sha256, "parameters": parameters})
    return Inventory({"presets": rows}, {}, problems)


def doctor(*, offline: bool = False) -> Inventory:
    """List what is installed, cached and reachable, and what each model and data set would use.

    Args:
        offline: never touch a network; nothing is said of sources.

    Returns:
        A table of each kind.

    Example:
        >>> import tfface
        >>> list(tfface.doctor(offline=True).to_dict())
        ['installed', 'cached', 'models', 'datasets']
    """
    contents = {"installed": _installed(), "cached": _cached(), "models": _models(), "datasets": _datasets()}
    if not offline:
        contents["sources"] = _sources()
    titles = {"installed": "Installed", "cached": f"Cached in {cache_dir()}", "models": "Models"}
    return Inventory(contents, {**titles, "datasets": "Data sets", "sources": "Reachable"})


def _state(preset: Preset) -> str:
    return weights.status(preset.name, preset.file_name, preset.sources, preset.sha256)


def _installed() -> list[dict[str, str]]:
    rows = [{"package": "python", "version": platform.python_version()}]
    for name in (*_PACKAGES, *_OPTIONAL):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = f"absent: pip install 'tfface[{_OPTIONAL[name]}]'" if name in _OPTIONAL else "missing"
        rows.append({"package": name, "version": version})
    wheels = {str(found.metadata["Name"]).lower() for found in importlib.metadata.distributions()}
    opencv = sorted(name for name in wheels if name.startswith("opencv"))
    if len(opencv) > 1:
        advice = f"{len(opencv)} wheels overwrite each other's cv2: keep one of {', '.join(opencv)}"
        rows.append({"package": "OpenCV", "version": advice})
    return rows


def _cached() -> list[dict[str, str]]:
    rows = []
    for part in sorted(cache_dir().iterdir()):
        sizes = [path.stat().st_size for path in part.rglob("*") if path.is_file()]
        rows.append({"part": part.name, "files": str(len(sizes)), "MB": f"{sum(sizes) / 1e6:.1f}"})
    return rows or [{"part": "nothing yet", "files": "0", "MB": "0.0"}]


def _models() -> list[dict[str, str]]:
    rows = []
    for name in registry.names("models"):
        states = {preset.name: _state(preset) for preset in presets(name)}
        ready = [preset for preset, state in states.items() if state in ("cached", "bundled")]
        rows.append(
            {
                "model": name,
                "preset it means here": ready[0] if ready else "none at hand",
                "weights": ", ".join(f"{preset}: {state}" for preset, state in states.items()) or "-",
            }
        )
    return rows


def _datasets() -> list[dict[str, str]]:
    facts = {name: catalogue.describe_dataset(name).facts for name in catalogue.names()}
    return [
        {
            "data set": name,
            "state": f"prepared in {known['folder']}"
            if known["prepared"]
            else f"prepared on first use: {known['source']}",
        }
        for name, known in facts.items()
    ]


def _sources() -> list[dict[str, str]]:
    rows = []
    for url in [source.url for preset in all_presets() for source in preset.sources if hasattr(source, "url")]:
        try:
            answer = f"answers ({weights.ask(url)})"
        except Unavailable as error:
            answer = str(error)
        rows.append({"source": url, "answer": answer})
    return rows
