"""tfface on the command line: `tfface COMMAND --help`.

Each command is a file here, found by its name and imported when it is used.
"""

import errno
import io
import os
import sys
from typing import Any

import click

from tfface import __version__
from tfface.cli import _command
from tfface.errors import UserError
from tfface.utils import registry

_OF_THE_SYSTEM = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EIO, errno.ESTALE),
}
"""What a disk says of a file that a user named; of others the traceback stays."""


class Commands(click.Group):
    """The commands by file name; `benchmark_robustness.py` is `benchmark-robustness`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name.replace("_", "-") for name in registry.names("cli")]

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        command: click.Command = registry.load("cli", name.replace("-", "_")).command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="tfface")
def cli() -> None:
    """Measure how good a face recognition model is, fool it, and make it harder to fool."""


def main() -> int:
    """Run the command line; what a user can mend is one line on stderr and exit code 2."""
    streams = _safe_streams()
    _command.log_to_stderr()
    code = _run()
    lost = [stream.lost for stream in streams if stream.lost and stream.number == 1]
    sys.stdout.flush()
    # Of a reader that went away (`| head`) nothing is wrong. All else was done: files are written.
    if lost and lost[0].errno != errno.EPIPE:
        print(f"error: cannot write to stdout: {lost[0].strerror}", file=sys.stderr)
        return code or 2
    return code


def _run() -> int:
    try:
        cli(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except (UserError, click.ClickException) as error:
        message = str(error) if isinstance(error, UserError) else error.format_message()
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            raise
        print(f"error: {error.filename or 'the system refuses a file'}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


class _Tolerant(io.RawIOBase):
    """A standard stream that takes all that is written, and remembers if it was lost.

    Attributes:
        number: of the file descriptor.
        lost: first error of writing.
    """

    def __init__(self, number: int, lost: OSError | None = None) -> None:
        self.number, self.lost = number, lost

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        try:
            while left and self.lost is None:
                left = left[os.write(self.number, left) :]
        except OSError as error:
            self.lost = error
        return len(memoryview(data).cast("B"))

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)


def _safe_streams() -> list[_Tolerant]:
    """Have stdout and stderr take all output, whatever becomes of it; streams that somebody replaced stay."""
    found = []
    for number, name in ((0, ""), (1, "stdout"), (2, "stderr")):
        closed = _opened_if_closed(number)
        stream = getattr(sys, name) if name else None
        if not name or (
            stream is not None and (stream is not getattr(sys, f"__{name}__") or not _is_at(stream, number))
        ):
            continue
        raw = _Tolerant(number, closed)
        text = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding if stream else "utf-8",
            # A terminal that lacks a letter shows another.
            errors="replace" if number == 1 else "backslashreplace",
            line_buffering=number == 2 or raw.isatty(),
        )
        setattr(sys, name, text)
        found.append(raw)
    return found


def _opened_if_closed(number: int) -> OSError | None:
    """Give a closed descriptor to the null device: the next file to be opened would get it, and what is printed."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        return OSError(errno.EBADF, "it is closed")
    return None


def _is_at(stream: Any, number: int) -> bool:
    try:
        return bool(stream.fileno() == number)
    except (OSError, ValueError, AttributeError):
        return False
