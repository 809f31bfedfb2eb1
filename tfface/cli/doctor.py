"""`python cli.py doctor`: what is installed, cached, reachable, and what each command would use."""

import click

from tfface.cli import _options

_PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "tensorflow-datasets",
    "mtcnn",
    "keras-facenet",
    "deepface",
    "opencv-contrib-python-headless",
    "scikit-learn",
    "pyarrow",
)


@click.command(cls=_options.Command)
@_options.offline
def command(offline: bool) -> None:
    """Tells what is installed, cached and reachable, and what each model and data set would use."""
    from tfface.cli._output import print_table

    print_table(["package", "version"], _installed(), title="Installed")
    print_table(["part", "files", "MB"], _cached(), title=f"Cached in {_cache_root()}")
    print_table(["model", "preset it means here", "weights"], _models(), title="Models")
    print_table(["data set", "state"], _datasets(), title="Data sets")
    if not offline:
        print_table(["source", "answer"], _sources(), title="Reachable")


def _installed() -> list[list[str]]:
    import importlib.metadata
    import platform

    rows = [["python", platform.python_version()]]
    for name in _PACKAGES:
        try:
            rows.append([name, importlib.metadata.version(name)])
        except importlib.metadata.PackageNotFoundError:
            rows.append([name, "missing: pip install -r requirements.txt"])
    wheels = {str(found.metadata["Name"]).lower() for found in importlib.metadata.distributions()}
    opencv = sorted(name for name in wheels if name.startswith("opencv"))
    if len(opencv) > 1:
        rows.append(["OpenCV", f"{len(opencv)} wheels overwrite each other's cv2: keep one of {', '.join(opencv)}"])
    return rows


def _cache_root() -> str:
    from tfface.utils.files import cache_dir

    return str(cache_dir())


def _cached() -> list[list[str]]:
    from tfface.utils.files import cache_dir

    rows = []
    for part in sorted(cache_dir().iterdir()):
        files = [path for path in part.rglob("*") if path.is_file()]
        rows.append([part.name, str(len(files)), f"{sum(path.stat().st_size for path in files) / 1e6:.1f}"])
    return rows or [["nothing yet", "0", "0.0"]]


def _models() -> list[list[str]]:
    from tfface.hub import weights
    from tfface.models._embedder import presets
    from tfface.utils import registry

    rows = []
    for name in registry.names("models"):
        states = [
            (preset.name, weights.status(preset.name, preset.file_name, preset.sources, preset.sha256))
            for preset in presets(name)
        ]
        ready = [preset for preset, state in states if state in ("cached", "bundled")]
        rows.append([name, ready[0] if ready else "none at hand", ", ".join(f"{a}: {b}" for a, b in states) or "-"])
    return rows


def _datasets() -> list[list[str]]:
    from tfface.data.catalogue import describe, names

    facts = {name: describe(name) for name in names()}
    return [
        [name, f"prepared in {known['folder']}" if known["prepared"] else f"prepared on first use: {known['source']}"]
        for name, known in facts.items()
    ]


def _sources() -> list[list[str]]:
    from tfface.errors import Unavailable
    from tfface.hub.weights import UrlSource, ask
    from tfface.models._embedder import all_presets

    rows = []
    for preset in all_presets():
        for source in preset.sources:
            if isinstance(source, UrlSource):
                try:
                    rows.append([source.url, f"answers ({ask(source.url)})"])
                except Unavailable as error:
                    rows.append([source.url, str(error)])
    return rows
