"""Settles TensorFlow before it is imported, and keeps its start-up chatter out of the user's terminal.

Its C++ parts write to file descriptor 2 before any of their log levels apply, both when it is
imported and when it first looks for devices. `install` lets both happen with that descriptor
held aside; what was written is shown only if they fail.
"""

import contextlib
import importlib.abc
import importlib.machinery
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType


@contextlib.contextmanager
def held_stderr() -> Iterator[None]:
    """Holds back what is written to file descriptor 2; shows it if the body raises."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def install() -> None:
    """Makes the first import of TensorFlow in this process a quiet one, with the faster kernels."""
    # oneDNN's, which by itself it takes on newer processors alone. On one that has AVX2 and no more, ResNet50 trains
    # 2.6 times as fast with them.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # What is logged later: errors alone.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Its Python half warns of functions traced again, which here are other models' functions.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Stands before Python's own finders, for one name alone."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        # Stays in place, since some only ask whether TensorFlow is installed.
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        with held_stderr():
            self._loader.exec_module(module)
            module.config.list_physical_devices("GPU")
