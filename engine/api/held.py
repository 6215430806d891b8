"""What `embed_items` takes, as items: each has a name and the bytes that a file of that name would hold."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import UsageError
from engine.models.probes import whole_characters
from engine.models.quiet import one_line
from engine.sources.base import Found, Unreadable
from engine.sources.memory import SCHEME, held

if TYPE_CHECKING:
    from PIL.Image import Image

#: A file's bytes, or a picture: uint8 [height, width], or [height, width, 3 or 4], RGB or RGBA.
Content: TypeAlias = "bytes | bytearray | memoryview | Image | npt.NDArray[np.uint8]"
#: A text has to have a name; anything else may.
HeldInput: TypeAlias = "Content | tuple[str, str | Content]"

ACCEPTED = "bytes, a PIL.Image, a uint8 array [height, width, 3], or (name, any of these or a text)"


def items_of(given: object) -> Iterator[Found]:
    """An item for each, as they are asked for; a picture that Pillow can't decode is `Unreadable`.

    Raises `UsageError` at one that is none.
    """
    if isinstance(given, Mapping):
        given = given.items()
    single = isinstance(given, (str, bytes, bytearray, memoryview)) or _is_image(given)
    if single or (isinstance(given, np.ndarray) and given.ndim != 4) or not isinstance(given, Iterable):
        raise UsageError(f"items: is of type {type(given).__name__}; give a list of items")
    return (_item(one, f"items[{position}]") for position, one in enumerate(given))


def _item(one: object, where: str) -> Found:
    if isinstance(one, str):
        raise UsageError(f"{where}: is a text without a name; give (name, text), or embed_file a path")
    name: str | None = None
    content: Any = one
    if isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str):
        name, content = one
    if name is not None:
        name = whole_characters(name)
        if not name or "\0" in name:
            raise UsageError(f"{where}: the name {name!r} is empty or holds a NUL")
    if isinstance(content, str):
        # A record's text can't hold what is replaced here.
        return held(whole_characters(content).replace("\0", " ").encode(), name)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return held(bytes(content), name)
    if isinstance(content, np.ndarray):
        content = _picture(content, where)
    elif not _is_image(content):
        raise UsageError(f"{where}: is of type {type(content).__name__}; give {ACCEPTED}")
    try:
        return held(_bitmap(content), name)
    except Exception as error:  # Pillow decodes it now, and has no errors of its own
        return Unreadable(f"{SCHEME}://{name or where}", one_line(error))


def _is_image(content: object) -> bool:
    # Who has such an object has imported Pillow.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(content, module.Image)


def _picture(array: npt.NDArray[Any], where: str) -> Any:
    from PIL.Image import fromarray

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4) or not array.size:
        raise UsageError(
            f"{where}: is {array.dtype} {list(array.shape)}; give uint8 [height, width], or"
            " [height, width, 3 or 4]"
        )
    return fromarray(np.ascontiguousarray(array))


def _bitmap(image: Any) -> bytes:
    """The upright picture as BMP: its RGB pixels, the same bytes whatever library writes them."""
    from PIL.ImageOps import exif_transpose

    from engine.parsers.image.decode import to_rgb

    file = io.BytesIO()
    to_rgb(exif_transpose(image)).save(file, "BMP")
    return file.getvalue()
