"""TensorFlow's and Keras's settings, and what C libraries print kept out of the user's terminal.

TensorFlow's C++ parts write to file descriptor 2 before any log level applies, both when it is imported and when it
first looks for devices. `install` redirects that descriptor meanwhile; what was written is shown only if they fail. It
is a hook of the import system because most modules import TensorFlow through Keras, and so do other packages.
"""

import contextlib
import ctypes
import importlib.abc
import importlib.machinery
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType

from tfface.errors import UserError


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


@contextlib.contextmanager
def as_usual() -> Iterator[None]:
    """Build and fill a Keras model at once, outside of any function that is being traced.

    Inside one its weights would be made, but never given their values.

    Raises:
        UserError: Keras is set up so that networks would have other numbers, or none.
    """
    import keras

    usual = {"floatx": "float32", "image_data_format": "channels_last", "dtype_policy": "float32"}
    found = {
        "floatx": keras.config.floatx(),
        "image_data_format": keras.config.image_data_format(),
        "dtype_policy": keras.config.dtype_policy().name,
    }
    for name, value in found.items():
        if value != usual[name]:
            raise UserError(
                f"Keras is set to {name} {value}, where networks here need {usual[name]}: change it in Keras's "
                f"keras.json (in ~/.keras, or KERAS_HOME), or call keras.config.set_{name}({usual[name]!r})"
            )
    if keras.config.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    with tf.init_scope():
        yield


def check_backend() -> None:
    """Check that Keras runs on TensorFlow.

    Raises:
        UserError: it runs on another backend.
    """
    import keras

    if (backend := keras.config.backend()) != "tensorflow":
        raise UserError(
            f"Keras runs on {backend}, where embedding needs TensorFlow: unset KERAS_BACKEND, or change backend in "
            "Keras's keras.json"
        )


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


class _Ears:
    """The C library's `stderr`, turned aside while photographs are decoded.

    libjpeg has no other way to say that it filled in what was damaged. What a thread's decoder says is that
    photograph's; anything else that is printed meanwhile goes where it was meant to go. Python's own `sys.stderr` is
    another thing and not touched. Where the C library cannot do this (other than glibc and musl), nothing is heard.
    """

    def __init__(self) -> None:
        self._lock, self._open, self._heard = threading.Lock(), 0, threading.local()
        library = ctypes.CDLL(None)
        self._write = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(self._hear)

        class Functions(ctypes.Structure):
            _fields_ = [(name, ctypes.c_void_p) for name in ("read", "write", "seek", "close")]

        library.fopencookie.restype = ctypes.c_void_p
        library.fopencookie.argtypes = [ctypes.c_void_p, ctypes.c_char_p, Functions]
        library.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        self._stderr = ctypes.c_void_p.in_dll(library, "stderr")
        self._file = library.fopencookie(
            None, b"w", Functions(None, ctypes.cast(self._write, ctypes.c_void_p), None, None)
        )
        if not self._file:
            raise OSError("fopencookie failed")
        unbuffered = 2  # _IONBF: written at once, by the thread that prints
        library.setvbuf(self._file, None, unbuffered, 0)

    def _hear(self, _: int, text: int, length: int) -> int:
        heard = getattr(self._heard, "now", None)
        if heard is None:
            os.write(2, ctypes.string_at(text, length))
        else:
            heard.append(ctypes.string_at(text, length))
        return length

    @contextlib.contextmanager
    def listen(self) -> Iterator[list[bytes]]:
        with self._lock:
            if not self._open:
                self._usual, self._stderr.value = self._stderr.value, self._file
            self._open += 1
        heard: list[bytes] = []
        self._heard.now = heard
        try:
            yield heard
        finally:
            self._heard.now = None
            with self._lock:
                self._open -= 1
                if not self._open:
                    self._stderr.value = self._usual


def _open_ears() -> _Ears | None:
    try:
        return _Ears()
    except (OSError, AttributeError, ValueError):
        return None


_ears = _open_ears()


@contextlib.contextmanager
def listening() -> Iterator[list[bytes]]:
    """Collect what the C libraries print in this thread meanwhile."""
    if _ears is None:
        yield []
        return
    with _ears.listen() as heard:
        yield heard
