"""A process beside the training that makes the views still missing."""

import collections
import logging
import os
import subprocess
import threading
import time
from collections.abc import Sequence

from tfface.errors import UserError
from tfface.training.bank import Make, ViewBank

logger = logging.getLogger(__name__)

PARENT = "TFFACE_GROWTH_OF"
"""Environment variable: the process that a growing one serves, and ends with."""
_SECONDS_BETWEEN_NOTES = 60.0


class Growth:
    """Runs a command that grows a bank, and tells when it fails."""

    def __init__(self, command: Sequence[str]) -> None:
        # The teacher answers under TensorFlow, whatever backend the student trains under.
        environment = {**os.environ, PARENT: str(os.getpid()), "KERAS_BACKEND": "tensorflow"}
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._said: collections.deque[str] = collections.deque(maxlen=20)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self._said.extend(self._process.stderr)

    def check(self) -> None:
        """Raises UserError if the process ended without having made all views."""
        code = self._process.poll()
        if code in (None, 0):
            return
        self._reader.join(timeout=5)
        lines = [line.strip() for line in self._said if line.strip()]
        if code == 2 and lines and lines[-1].startswith("error: "):
            raise UserError(lines[-1].removeprefix("error: "))
        raise UserError(
            f"the process that makes views ended with {code}: the same command goes on from here"
            + (f" ({lines[-1]})" if lines else "")
        )

    def stop(self) -> None:
        """Ends the process; what it made stays."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def grow(bank: ViewBank, views: int, make: Make) -> None:
    """Makes all view numbers in order, at low priority to the training; ends when its parent is gone."""
    parent = os.environ.get(PARENT)

    def make_unless_orphaned(number: int, start: int, stop: int) -> tuple:
        if parent and os.getppid() != int(parent):
            raise UserError("the training that these views are for has ended: the same command goes on from here")
        return make(number, start, stop)

    for number in range(views):
        bank.fill(number, make_unless_orphaned)


def wait_for(bank: ViewBank, number: int, growth: Growth | None) -> None:
    """Waits for a view number, with a line now and then.

    Raises:
        UserError: the growing process failed, or there is none.
    """
    said = time.monotonic()

    def still_growing() -> None:
        nonlocal said
        if growth is None:
            raise UserError(
                f"view {number} of the bank {bank.folder} is missing: run the same command without --growth none"
            )
        growth.check()
        if time.monotonic() - said > _SECONDS_BETWEEN_NOTES:
            said = time.monotonic()
            logger.warning(f"making view {number}: {bank.done(number)} of {bank.rows} photographs")

    bank.wait(number, still_growing)
