"""`python cli.py weights`: list, fetch, check the weights of every preset."""

from pathlib import Path

import click

from tfface.cli import _options


@click.group(cls=_options.Group)
def command() -> None:
    """Lists, fetches and checks the weights of the presets."""


@command.command("list")
def list_() -> None:
    """Lists every preset: where its weights stand, their size and licence."""
    from tfface.cli._output import print_table
    from tfface.hub import weights
    from tfface.models._embedder import all_presets

    rows = []
    for preset in all_presets():
        state = weights.status(preset.name, preset.file_name, preset.sources, preset.sha256)
        rows.append(
            [
                preset.name,
                state,
                (preset.sha256 or "recorded at first use")[:21],
                ", ".join(source.describe() for source in preset.sources),
                preset.licence,
            ]
        )
    print_table(["preset", "weights", "sha256", "source", "licence"], rows)


@command.command()
@click.argument("name")
@click.option("--from", "given", type=click.Path(path_type=Path), metavar="FILE", help="Take this copy.")
@_options.offline
def fetch(name: str, given: Path | None, offline: bool) -> None:
    """Fetches the weights of a preset (facenet/msceleb), or takes the copy at --from."""
    from tfface.errors import UserError
    from tfface.hub import weights
    from tfface.models._embedder import candidates, load, locate

    if given is None:
        preset, file = locate(name, offline=offline)
    else:
        if "/" not in name:
            raise UserError(f"name the whole preset: {', '.join(preset.name for preset in candidates(name))}")
        (preset,) = candidates(name)
        # Loaded before it is kept, since a hash that nobody published is enforced from then on.
        _ = load(preset, weights.inspect(preset.name, preset.file_name, preset.sha256, given)).model
        file = weights.supply(preset.name, preset.file_name, preset.sha256, given)
    click.echo(f"{preset.name}: {file.path} sha256 {file.sha256}")


@command.command()
@click.argument("names", nargs=-1)
def check(names: tuple[str, ...]) -> None:
    """Checks the weights at hand: their hash, and that they load into their network."""
    from tfface.cli._output import print_table
    from tfface.errors import UserError
    from tfface.hub import weights
    from tfface.models._embedder import all_presets, candidates, load

    wanted = [preset for name in names for preset in candidates(name)] if names else list(all_presets())
    rows, bad = [], []
    for preset in wanted:
        state = weights.status(preset.name, preset.file_name, preset.sources, preset.sha256)
        if state in ("cached", "bundled"):
            file = weights.obtain(preset.name, preset.file_name, preset.sources, preset.sha256, offline=True)
            parameters = load(preset, file).model.count_params()
            rows.append([preset.name, f"{state}, whole", file.sha256[:16], f"{parameters:,}"])
            continue
        rows.append([preset.name, state, "-", "-"])
        if state == "damaged" or names:
            bad.append(f"{preset.name} is {state}")
    print_table(["preset", "weights", "sha256", "parameters"], rows)
    if bad:
        raise UserError(f"{'; '.join(bad)}: python cli.py weights fetch NAME")
