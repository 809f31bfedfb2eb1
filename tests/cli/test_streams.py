"""Standard streams that are closed, full or gone, and what the system refuses: one line, and files are written."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfface import cli
from tfface.errors import UserError

ROOT = Path(__file__).parents[2]

# A command as all are: a result with a table, printed and saved.
COMMAND = """
import sys
from pathlib import Path
import click
from tfface import cli
from tfface.cli import _command
from tfface.utils.public import Result, Table

class Toy(Result):
    def to_dict(self):
        return {"value": 1}
    def tables(self):
        return [Table(["name", "value"], [["名 ‰ é", "1"]] * 2000)]

@click.command(cls=_command.Command)
@_command.out
def toy(out):
    print("on stderr", file=sys.stderr)
    _command.finish(Toy(), out)

cli.Commands.get_command = lambda self, ctx, name: toy
sys.argv = ["tfface", "toy", "--out", sys.argv[1]]
sys.exit(cli.main())
"""


def shell(tmp_path, redirection, **environment):
    """Run the command with its streams redirected: its exit code and what is left of stdout and stderr."""
    (tmp_path / "toy.py").write_text(COMMAND)
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "{sys.executable}" toy.py out {redirection}'],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ("", 0, "on stderr\n"),
        (">/dev/full", 2, "on stderr\nerror: cannot write to stdout: No space left on device\n"),
        (">&-", 2, "on stderr\nerror: cannot write to stdout: it is closed\n"),
        ("<&- >&-", 2, "on stderr\nerror: cannot write to stdout: it is closed\n"),
        ("| head -1", 0, "on stderr\n"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        (">&- 2>&-", 2, ""),
        (">/dev/full 2>/dev/full", 2, ""),
        ("<&-", 0, "on stderr\n"),
    ],
)
def test_the_output_is_written_all_the_same(tmp_path, redirection, code, said):
    found, out, err = shell(tmp_path, redirection)
    assert (found, err) == (code, said)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == {"value": 1}
    if ">" not in redirection.replace("2>", ""):
        assert out.count("\n") == (1 if "head" in redirection else 2004 + 1)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_a_terminal_lacks(tmp_path, encoding):
    code, _, err = shell(tmp_path, "", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (code, err) == (0, "on stderr\n")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG, errno.EIO])
def test_what_the_system_refuses_is_one_line(refused, tiny_faces, monkeypatch, number):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr("tfface.data.catalogue.describe_dataset", refuse)
    assert refused("datasets", "describe", tiny_faces) == f"error: /some/file: {os.strerror(number)}"


def test_a_defect_keeps_its_traceback(monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(cli, "cli", fail)
    with pytest.raises(OSError, match="Bad file descriptor"):
        cli.main()


def test_a_folder_that_cannot_be_read(refused, tiny_faces, tiny_model, monkeypatch):
    look = os.scandir

    def scandir(path):
        if Path(path) == tiny_faces:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for command in (("evaluate", "--dataset", tiny_faces), ("embed", tiny_faces, "--out", tiny_faces / "e.npz")):
        said = refused(*command, "--model", "tiny", "--recipe", "whole")
        assert said == f"error: cannot read the folder {tiny_faces}: Permission denied"


def test_a_report_names_the_folders_that_it_cannot_read(tmp_path, monkeypatch, capsys):
    from tfface.report.page_runs import read_runs

    look = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path)

    (tmp_path / "runs" / "locked").mkdir(parents=True)
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"holds no metrics\.json"):
        read_runs([tmp_path / "runs"])
    locked = tmp_path / "runs" / "locked"
    assert f"{locked} cannot be read and is left out: Permission denied" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"cannot read the folder .*locked: Permission denied"):
        read_runs([locked])
