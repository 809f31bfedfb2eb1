"""tfface on the command line: `tfface COMMAND --help`.

Each command is a file here, found by its name and imported when it is used.
"""

import os
import sys

import click

from tfface import __version__
from tfface.cli import _command
from tfface.errors import UserError
from tfface.utils import registry


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
    _command.log_to_stderr()
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
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
