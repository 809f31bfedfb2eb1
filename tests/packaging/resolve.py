"""Resolve the package with its extras for every Python that pyproject.toml names, from wheels alone.

    python tests/packaging/resolve.py

keras-facenet and promise are published as sources of pure Python: their wheels are built first.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("keras-facenet", "promise")
EXTRAS = ("serving", "cluster", "onnx", "peers", "playground", "docs")


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    versions = [f"3.{name.removeprefix(prefix)}" for name in project["classifiers"] if name.startswith(prefix)]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(entry for name in EXTRAS for entry in extras[name])]
    with tempfile.TemporaryDirectory() as folder:
        pip("wheel", "--no-deps", "--wheel-dir", folder, *SOURCES)
        for version in versions:
            options = ["--dry-run", "--only-binary=:all:", "--python-version", version, "--target", f"{folder}/target"]
            pip("install", *options, "--find-links", folder, *wanted)
            print(f"Python {version}: resolved {len(wanted)} requirements")
    return 0


if __name__ == "__main__":
    sys.exit(main())
