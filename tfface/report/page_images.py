"""Images inside an HTML page: data URIs of bounded size."""

import base64
import io
from pathlib import Path

from PIL import Image

from tfface.errors import ImageError, UserError
from tfface.preprocessing.images import decode


def data_uri(path: Path, *, longest: int = 1400, quality: int = 85) -> str:
    """An image file as WebP in a `data:` address.

    Args:
        path: of an image that `tfface.preprocessing.images.decode` reads.
        longest: a longer side is scaled down to so many pixels.
        quality: WebP's, 0 to 100.

    Raises:
        UserError: it cannot be read.
    """
    try:
        picture = Image.fromarray(decode(path.read_bytes()))
    except ImageError as error:
        raise UserError(f"{path} {error}: run the command that wrote it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
