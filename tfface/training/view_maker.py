"""Make views of training photographs and embed them with the teacher: here, or in a process beside the training."""

import collections
import functools
import logging
import multiprocessing
import multiprocessing.connection
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data.crops import main_faces
from tfface.errors import ImageError, UserError
from tfface.evaluation.inputs import Embedder, FaceDataset
from tfface.preprocessing.images import Recipe, decode, upright
from tfface.preprocessing.mtcnn import DETECTOR
from tfface.training.distiller import bfloat16_convolutions
from tfface.training.losses import answers_with_hints
from tfface.training.view_bank import PART, ViewBank
from tfface.training.views import Augmentation, Photograph, make_view
from tfface.utils.files import cache_dir, digest_of, fields_of, read_json, write_json
from tfface.utils.progress import progress

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

BATCH = 64
_FORMAT = 1
_SECONDS_BETWEEN_NOTES = 60.0


def usable(dataset: FaceDataset, recipe: Recipe, indices: np.ndarray) -> np.ndarray:
    """Return the photographs that can be decoded and, where the recipe needs one, have a face.

    Raises:
        UserError: no photograph can be used.
    """
    faces = main_faces(dataset, recipe)
    if faces is None:
        unreadable = _unreadable(dataset)
    else:
        unreadable = {index for index, face in enumerate(faces) if isinstance(face, str)}
    good = np.array([index for index in indices if int(index) not in unreadable], np.int64)
    if len(good) < len(indices):
        logger.warning(f"{len(indices) - len(good)} of {len(indices)} photographs of {dataset.name} cannot be used")
    if not len(good):
        raise UserError(f"none of the {len(indices)} photographs of {dataset.name} can be used with {recipe.name}")
    return good


def _unreadable(dataset: FaceDataset) -> set[int]:
    """Return the photographs that cannot be decoded; looked up once for a data set."""
    path = cache_dir("training") / f"unreadable-{digest_of([dataset.name, dataset.version])}.json"
    if not path.exists():
        with ThreadPoolExecutor() as pool:
            fine = list(pool.map(lambda key: _is_image(dataset, key), dataset.keys))
        write_json(path, {"dataset": dataset.name, "unreadable": [index for index, ok in enumerate(fine) if not ok]})
    return set(read_json(path)["unreadable"])


def _is_image(dataset: FaceDataset, key: str) -> bool:
    try:
        decode(dataset.read(key))
    except ImageError:
        return False
    return True


def sampled(indices: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """Draw so many by seed, in order; all of them if None."""
    if count is None or count >= len(indices):
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, count, replace=False))


@dataclass(frozen=True, eq=False)
class ViewMaker:
    """Views of a data set's training photographs, each with the teacher's answer.

    Attributes:
        dataset: the photographs.
        indices: of the training photographs; all of them usable.
        recipe: of the crops that the views are around.
        teacher: embeds every view.
        augmentation: difference between the views and plain crops.
        seed: random seed.
        fast: the teacher's convolutions are in bfloat16, about 1.7 times as fast.
        hints: after each embedding come the teacher's last features (`tfface.training.losses`).
    """

    dataset: FaceDataset
    indices: np.ndarray
    recipe: Recipe
    teacher: Embedder
    augmentation: Augmentation
    seed: int
    fast: bool = False
    hints: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return fields_of(self)  # faces and the compiled teacher are each process's own

    @property
    def identities(self) -> list[str]:
        """The person on each photograph."""
        return [self.dataset.identities[index] for index in self.indices]

    def bank(self) -> ViewBank:
        """Return the bank of these views."""
        preset = self.teacher.preset
        fingerprint: dict[str, Any] = {
            "format": _FORMAT,
            "teacher": preset.name,
            "teacher_sha256": self.teacher.sha256,
            "teacher_precision": "bfloat16" if self.fast else "float32",
            "recipe": self.recipe.name,
            "detector": DETECTOR if self.recipe.source == "mtcnn" else None,
            "dataset": self.dataset.name,
            "version": self.dataset.version,
            "photographs": digest_of(self.indices.tolist()),
            "augmentation": self.augmentation.record(),
            "seed": self.seed,
        }
        dimension = self._answering.output_shape[-1]
        return ViewBank(
            fingerprint, len(self.indices), preset.input_size, dimension, hints=dimension - preset.embedding_size
        )

    def fill(self, views: int) -> None:
        """Make all view numbers that are missing, in order, in this process."""
        bank = self.bank()
        total = -(-bank.rows // PART) * views
        done = sum(-(-bank.done(number) // PART) for number in range(views))
        bar = progress(range(total - done), total=total, done=done, label="making views", unit=f"parts of {PART}")

        def make(number: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            next(bar, None)
            return self.make(number, start, stop)

        for number in range(views):
            bank.fill(number, make)

    def make(self, number: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Make one part of a view number, as `ViewBank.fill` needs it."""
        views, answers = [], []
        self._faces  # noqa: B018 - found before the threads below ask for them
        with ThreadPoolExecutor() as pool, bfloat16_convolutions(on=self.fast):
            for batch in _ahead(pool, lambda rows: self._views(number, rows), range(start, stop)):
                views.append(batch)
                answers.append(np.asarray(self._embed(padded(batch).astype(np.float32) / 255))[: len(batch)])
        return np.concatenate(views), np.concatenate(answers)

    @functools.cached_property
    def _faces(self) -> Sequence[np.ndarray | str]:
        return main_faces(self.dataset, self.recipe) or ()

    @functools.cached_property
    def _answering(self) -> "keras.Model":
        return answers_with_hints(self.teacher.model) if self.hints else self.teacher.model

    @functools.cached_property
    def _embed(self) -> Callable[[np.ndarray], Any]:
        if not self.fast and not self.hints:
            return self.teacher.embed
        import tensorflow as tf

        # A function of its own: the precision stays with a traced one, and the teacher is measured in float32.
        model = self._answering
        return tf.function(lambda images: model(images, training=False))

    def _views(self, number: int, rows: range) -> np.ndarray:
        size, count = self.teacher.preset.input_size, len(self.indices)
        return np.stack(
            [make_view(row, number, self._photograph, count, size, self.augmentation, self.seed) for row in rows]
        )

    def _photograph(self, row: int) -> Photograph:
        index = int(self.indices[row])
        pixels = decode(self.dataset.read(self.dataset.keys[index]))
        face = self._faces[index] if self._faces else None
        assert not isinstance(face, str), "only usable photographs are read"
        place = self.recipe.place(pixels.shape[0], pixels.shape[1], face)
        return upright(pixels, place, self.teacher.preset.input_size) if self.recipe.aligned else (pixels, place)


def padded(batch: np.ndarray) -> np.ndarray:
    """Repeat the last image up to a full batch: one shape for all, so that the network is traced once."""
    return np.concatenate([batch, np.repeat(batch[-1:], BATCH - len(batch), axis=0)]) if len(batch) < BATCH else batch


def _ahead(pool: ThreadPoolExecutor, make: Callable[[range], np.ndarray], rows: range) -> Iterator[np.ndarray]:
    """Yield batches in order, the next one being made while the last one is used."""
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    waiting = pool.submit(make, batches[0])
    for following in [*batches[1:], None]:
        batch = waiting.result()
        if following is not None:
            waiting = pool.submit(make, following)
        yield batch


class ViewProcess:
    """A process beside the training that makes missing views, and ends with it.

    It is a fresh Python that gets the maker over a pipe: so it runs under TensorFlow whatever backend the student
    trains under, and starts from scripts and notebooks alike.
    """

    def __init__(self, command: Sequence[str], *, fds: Sequence[int] = ()) -> None:
        """
        Args:
            command: to run.
            fds: file descriptors that it inherits.
        """
        path = os.pathsep.join(entry for entry in [os.getcwd(), *sys.path] if entry)
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=fds,
        )
        self._said: collections.deque[str] = collections.deque(maxlen=20)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, maker: ViewMaker, views: int) -> "ViewProcess":
        """Start a process for the views that are missing.

        Args:
            maker: of the views.
            views: number of views to make.

        Raises:
            UserError: the data set or the teacher cannot be sent to another process.
        """
        ours, theirs = multiprocessing.Pipe()
        with ours, theirs:
            command = f"from {__name__} import serve; serve({theirs.fileno()})"
            process = cls([sys.executable, "-c", command], fds=[theirs.fileno()])
            theirs.close()
            try:
                ours.send((maker, views, os.getpid()))
            except OSError:
                pass  # it died before it read: `check` tells why
            except Exception as error:  # whatever an object says that cannot be sent
                process.stop()
                raise UserError(
                    f"views cannot be made in the background ({error}): give `growth` ahead", parameter="growth"
                ) from error
        return process

    def _read(self) -> None:
        assert self._process.stderr is not None
        self._said.extend(self._process.stderr)

    def check(self) -> None:
        """Check that it is at work, or done.

        Raises:
            UserError: it ended without having made all views.
        """
        code = self._process.poll()
        if code in (None, 0):
            return
        self._reader.join(timeout=5)
        lines = [line.strip() for line in self._said if line.strip()]
        if lines and lines[-1].startswith("error: "):
            raise UserError(lines[-1].removeprefix("error: "))
        raise UserError(
            f"the process that makes views ended with {code}: the same command goes on from here"
            + (f" ({lines[-1]})" if lines else "")
        )

    def stop(self) -> None:
        """End the process; what it made stays."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(descriptor: int) -> None:
    """Make the views that the parent process asks for (see `ViewProcess`).

    Args:
        descriptor: of the pipe to it.
    """
    with multiprocessing.connection.Connection(descriptor) as pipe:
        maker, views, parent = pipe.recv()
    os.nice(2)  # the training goes first, but waits for views: only a little
    try:
        fill_for(parent, maker.bank(), views, maker.make)
    except UserError as error:
        sys.exit(f"error: {error}")


def fill_for(parent: int, bank: ViewBank, views: int, make: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    """Make all view numbers in order; end when the process that they are for is gone.

    Args:
        parent: id of that process.
        bank: for the views.
        views: number of views.
        make: computes one part.

    Raises:
        UserError: that process has ended.
    """

    def make_unless_orphaned(number: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        if os.getppid() != parent:
            raise UserError("the training that these views are for has ended: the same command goes on from here")
        return make(number, start, stop)

    for number in range(views):
        bank.fill(number, make_unless_orphaned)


def wait_for(bank: ViewBank, number: int, process: ViewProcess | None) -> None:
    """Wait for a view number, with a line of log now and then.

    Raises:
        UserError: the process that makes views failed, or there is none.
    """
    said = time.monotonic()

    def check() -> None:
        nonlocal said
        if process is None:
            raise UserError(
                f"view {number} of the bank {bank.folder} is missing: run the same command without `growth` none",
                parameter="growth",
            )
        process.check()
        if time.monotonic() - said > _SECONDS_BETWEEN_NOTES:
            said = time.monotonic()
            logger.warning(f"making view {number}: {bank.done(number)} of {bank.rows} photographs")

    bank.wait(number, check)
