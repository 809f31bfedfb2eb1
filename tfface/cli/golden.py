"""`python cli.py golden ARTIFACT`: is this copy of an artifact what was exported, and does it answer the same?"""

from pathlib import Path

import click

from tfface.cli import _options


@click.command(cls=_options.Command)
@click.argument("artifact", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--golden",
    "golden_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="golden.json; the one beside the artifact if absent.",
)
def command(artifact: Path, golden_file: Path | None) -> None:
    """Checks a copy of an artifact: its hash, and what it answers to its golden inputs.

    ARTIFACT is a .tflite file or the folder of a SavedModel. A .tflite file is checked without
    TensorFlow.
    """
    from tfface.artifacts.artifact import open_artifact
    from tfface.artifacts.golden import check
    from tfface.cli._output import print_table
    from tfface.errors import UserError

    opened = open_artifact(artifact)
    answers = check(opened, golden_file or opened.path.parent / "golden.json")
    print_table(
        ["input", "cosine distance", "verdict"],
        [[answer.file, f"{answer.distance:.2e}", "as exported" if answer.passed else "differs"] for answer in answers],
        title=f"{opened.name} ({opened.sha256[:8]})",
    )
    failed = [answer.file for answer in answers if not answer.passed]
    if failed:
        raise UserError(
            f"{opened.path} answers {', '.join(failed)} otherwise than when it was exported: the runtime or the "
            "processor here computes it wrongly"
        )
    click.echo(f"all {len(answers)} inputs are answered as when it was exported")
