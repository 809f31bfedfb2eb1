"""Run the fast tests under every other Python that pyproject.toml names and this machine has.

    python tests/packaging/pythons.py [--install | arguments of pytest ...]

Each gets an environment of its own, `.venv-3.X`, with the newest packages of pyproject.toml's ranges. With `--install`
the environments are made, and nothing is run.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOOLS = ("pytest", "hypothesis", "dill", "scikit-learn")
MARKS = "not lfw and not slow and not cluster and not registry"
FOLDERS = ("utils", "metrics", "augmentation", "preprocessing", "data", "hub")


def versions() -> list[str]:
    prefix = "Programming Language :: Python :: 3."
    found = [name.removeprefix(prefix) for name in PROJECT["classifiers"] if name.startswith(prefix)]
    return [f"3.{minor}" for minor in found if int(minor) != sys.version_info.minor]


def interpreter(version: str) -> str | None:
    """A Python of this version: on the path, else one that pyenv has."""
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for candidate in (f"python{version}", *map(str, sorted(kept.glob(f"{version}.*/bin/python"), reverse=True))):
        try:
            done = subprocess.run([candidate, "-c", "import ssl, venv"], capture_output=True)
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    return None


def environment(version: str, python: str) -> str:
    """The Python of the environment `.venv-3.X`, with the package and the tools of its tests."""
    own = ROOT / f".venv-{version}" / "bin" / "python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", str(own.parents[1])], check=True)
    ranges = PROJECT["optional-dependencies"]["dev"]
    tools = [entry for entry in ranges if entry.startswith(TOOLS)]
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([str(own), "-m", "pip", "install", *quiet, "--editable", str(ROOT), *tools], check=True)
    return str(own)


def main() -> int:
    failed, arguments = [], sys.argv[1:]
    for version in versions():
        python = interpreter(version)
        if python is None:
            print(f"Python {version}: not found, skipped")
            continue
        own = environment(version, python)
        if "--install" not in arguments:
            print(f"Python {version}:", flush=True)
            folders = [str(ROOT / "tests" / name) for name in FOLDERS]
            command = [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", MARKS, *folders, *arguments]
            if subprocess.run(command, cwd=ROOT).returncode:
                failed.append(version)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
