"""TensorFlow's settings, and its start-up messages kept out of the user's terminal.

Its C++ parts write to file descriptor 2 before any log level applies, both when it is imported and when it first looks
for devices. `install` redirects that descriptor meanwhile; what was written is shown only if they fail. It is a hook of
the import system because most modules import TensorFlow through Keras, and so do other packages.
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
    """Hold back output to file descriptor 2; show it if the body raises."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(saved, aside.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def install() -> None:
    """Make the first import of TensorFlow in this process quiet, with the faster kernels."""
    # oneDNN's, which by itself it takes on newer processors alone. On one that has AVX2 and no more, ResNet50 trains
    # 2.6 times as fast with them.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # What is logged later: errors alone.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Its Python half warns of functions traced again, which here are other models' functions.
    logger = logging.getLogger("tensorflow")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finder of TensorFlow alone, before Python's own finders."""

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
