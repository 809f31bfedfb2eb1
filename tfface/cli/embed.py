"""`python cli.py embed FOLDER --out x.npz`: the embeddings of a folder of photographs."""

from pathlib import Path

import click

from tfface.cli import _options


@click.command(cls=_options.Command)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_options.model
@_options.artifact_path
@_options.boxes_file
@_options.recipe_name
@_options.flip
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="Where the arrays go.",
)
@click.option("--strict", is_flag=True, help="Stop if a photograph fails, instead of counting it.")
@_options.offline
@_options.cluster
def command(
    folder: Path,
    model_name: str,
    artifact_path: Path | None,
    boxes_file: Path | None,
    recipe_name: str | None,
    flip: bool,
    out: Path,
    strict: bool,
    offline: bool,
    cluster: str | None,
) -> None:
    """Embeds every photograph under FOLDER into one .npz file.

    Its arrays: keys (paths below FOLDER), embeddings (N, D), failed_keys and failed_reasons,
    preset, weights_sha256, recipe; with --artifact artifact_sha256. Plain arrays: numpy.load reads it
    with allow_pickle=False.
    """
    import numpy as np

    from tfface.artifacts.photographs import embed_photographs, open_reader, read_boxes, reader_recipe
    from tfface.data.folder import open_photographs
    from tfface.errors import UserError
    from tfface.evaluation.embeddings import embed_dataset, report_failures
    from tfface.models._embedder import load_embedder
    from tfface.preprocessing.images import recipe
    from tfface.utils.files import atomic_write

    if out.suffix != ".npz":
        raise UserError(f"--out {out} must end in .npz")
    if boxes_file and not artifact_path:
        raise UserError("--boxes goes with --artifact: a model finds the faces itself")
    if cluster and artifact_path:
        raise UserError("--cluster goes with --model: an artifact answers on this machine")
    executor = _options.executor(cluster)
    artifact = open_reader(artifact_path) if artifact_path else None
    embedder = artifact.embedder() if artifact else load_embedder(model_name, offline=offline)
    if artifact:
        boxes = read_boxes(boxes_file) if boxes_file else None
        chosen = reader_recipe(artifact, recipe_name, boxed=boxes is not None)
        origin = {"weights_sha256": artifact.record["weights_sha256"], "artifact_sha256": artifact.sha256}
    else:
        chosen = recipe(recipe_name or embedder.preset.recipe)
        origin = {"weights_sha256": embedder.sha256}
    photographs = open_photographs(folder)
    if artifact:
        embeddings = embed_photographs(photographs, embedder, chosen, boxes=boxes, flip=flip)
    else:
        embeddings = embed_dataset(photographs, embedder, chosen, flip=flip, executor=executor)
    report_failures(embeddings.failed, len(photographs.keys), strict=strict)
    keys = np.array(photographs.keys)
    with atomic_write(out) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            keys=keys[embeddings.ok],
            embeddings=embeddings.vectors[embeddings.ok],
            failed_keys=np.array([key for key, _ in embeddings.failed], dtype=str),
            failed_reasons=np.array([reason for _, reason in embeddings.failed], dtype=str),
            preset=embedder.preset.name,
            recipe=chosen.name,
            **origin,
        )
    click.echo(
        f"wrote {out}: {embeddings.ok.sum()} embeddings of {embeddings.vectors.shape[1]} values by "
        f"{embedder.preset.name}, {len(embeddings.failed)} photographs failed"
    )
