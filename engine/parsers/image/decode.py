"""Pictures: decoded upright, made RGB, and brought to the image model's size as open_clip would."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from PIL import ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import DecompressionBombError, Image, Resampling, Transpose, fromarray, new
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from engine.errors import ParseError
from engine.models.spec import ImageSpec
from engine.parsers.base import ParseOptions
from engine.parsers.image import scans
from engine.parsers.reading import Opened, hash_content
from engine.parsers.sections import from_token, to_token
from engine.records import PictureSection, Pixels, SectionFailure

#: Largest picture that is decoded, in pixels: Pillow's own warning limit, 1 GiB at 12 bytes a pixel.
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3

#: Most frames of a TIFF that are read: two may be one and the same, so that a small file has any number.
MAX_FRAMES = 5000

#: Most pixels that a progressive JPEG goes over, all its scans together; scans without data are short.
MAX_SCANNED_PIXELS = 50 * MAX_PIXELS

#: A JPEG is decoded at the smallest of its scales (1, 1/2, 1/4, 1/8) that has this many times the pixels
#: wanted along each side. Measured on noisy pictures with ViT-B/32: largest 1 - cosine 3e-4 at 1, 3e-5 at 2,
#: 5e-6 at 3 and 4; 3.0, 2.3, 1.8 and 1.7 times as fast as in full.
DRAFT_FACTOR = 3

#: EXIF's tag for how the camera was held.
_ORIENTATION = 0x0112

# EXIF 2.32, 4.6.4 A: what brings each orientation upright.
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}

_TURNED = (5, 6, 7, 8)

# What Pillow says, in words for those who don't know Pillow.
_IN_WORDS = (
    (re.compile("truncated", re.I), "it ends too early"),
    (re.compile("data too large"), "its metadata inflates too far"),
    (re.compile("not identified"), "its beginning is damaged, or it has no size"),
)

_RESAMPLING = {
    "bicubic": Resampling.BICUBIC,
    "bilinear": Resampling.BILINEAR,
    "nearest": Resampling.NEAREST,
}

# The classes themselves, not `Image.open`: the type is known, and its global limit on pixels is not ours to
# set.
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "image/jpeg": JpegImageFile,
    "image/png": PngImageFile,
    "image/webp": WebPImageFile,
    "image/gif": GifImageFile,
    "image/tiff": TiffImageFile,
    "image/bmp": BmpImageFile,
}


def sections(
    opened: Opened, media_type: str, spec: ImageSpec, options: ParseOptions, resume: str | None = None
) -> Iterator[PictureSection | SectionFailure]:
    """The picture in a file, or the frames of a TIFF that has several (its pages).

    Raises ParseError `too-many-pixels`, `too-many-scans` or `damaged-image` (for one frame of several, a
    SectionFailure stands in its place), `too-many-frames` after the last frame that is taken, and OSError.
    """
    content_hash = hash_content(opened, options.progress)
    with opened.stream() as file:
        with _errors_as_parse_error():
            image = _open(file, media_type)
        several = media_type == "image/tiff" and getattr(image, "is_animated", False)
        for frame in itertools.count(int(from_token(resume)["frame"]) if resume else 0):
            if frame and not several:
                return
            if frame == MAX_FRAMES:
                with _errors_as_parse_error():
                    if not _find_frame(image, frame):
                        return
                limit = f"{MAX_FRAMES:,}"
                raise ParseError("too-many-frames", f"of more than {limit} frames the others are left out")
            page = frame + 1 if several else None
            try:
                with _errors_as_parse_error():
                    if not _find_frame(image, frame):
                        return
                    pixels, truncated = _decode(image, spec, options.exact_images, options.tolerate_truncated)
            except ParseError as error:
                if page is None:
                    raise
                yield SectionFailure(frame, page, error.error_type, str(error))
                if image.tell() != frame:
                    return  # where it should tell of the next frame
            else:
                yield PictureSection(frame, page, pixels, content_hash, to_token(frame=frame + 1), truncated)
            options.progress()


def prepare(image: Image, spec: ImageSpec) -> Pixels:
    """uint8 [h, w, 3] of an upright picture in any mode, as open_clip's preprocessing of its RGB form has it.

    Source: open_clip 3, `transform.py`, `image_transform(is_train=False)`, without its normalisation.
    """
    return _fit(to_rgb(image), spec)


def _open(file: BinaryIO, media_type: str) -> ImageFile.ImageFile:
    file.seek(0)
    image = _READERS[media_type](file)
    if min(image.size) < 1:
        raise ValueError(f"it is {image.width} x {image.height} pixels")
    return image


def _find_frame(image: ImageFile.ImageFile, frame: int) -> bool:
    """Go to a frame; False where there are no more."""
    try:
        if frame:
            image.seek(frame)
    except EOFError:
        return False
    return True


def _decode(
    image: ImageFile.ImageFile, spec: ImageSpec, exact: bool, tolerate_truncated: bool
) -> tuple[Pixels, bool]:
    """The picture, and whether a part of it is missing."""
    size = image.size
    box = None if exact or not isinstance(image, JpegImageFile) else _draft(image, spec)
    # A progressive JPEG holds the coefficients of all its pixels, whatever scale is asked for.
    progressive = bool(image.info.get("progressive"))
    width, height = size if progressive else image.size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(f"{width} x {height}", exact and isinstance(image, JpegImageFile))
    if progressive and isinstance(image, JpegImageFile) and image.fp is not None:
        if scans.more_scans_than(image.fp, MAX_SCANNED_PIXELS // (width * height)):
            raise ParseError("too-many-scans", f"its {width} x {height} pixels are refined by too many scans")
        if not exact:
            _spare_scans(image, size, spec)
    damage = _load(image)
    # After loading: a TIFF turns itself and forgets its orientation then.
    orientation = image.getexif().get(_ORIENTATION, 1)
    upright = _UPRIGHT.get(orientation)
    picture = to_rgb(image)
    if box is not None:
        # Resized before it is turned: the box, which ends inside the last pixels, is in stored coordinates.
        picture = picture.resize(_stored_size(size, orientation, spec), _resampling(spec), box)
    if upright is not None:
        picture = picture.transpose(upright)
    pixels = _fit(picture, spec) if box is None else _crop(picture, spec)
    if damage is not None:
        if (pixels == pixels[0, 0]).all():  # nothing of it is there
            raise damage
        if not tolerate_truncated:
            error = _damaged(damage)
            raise ParseError(error.error_type, f"{error}; --tolerate-truncated takes what there is of it")
    return pixels, damage is not None


def _too_many_pixels(size: str, exact_jpeg: bool = False) -> ParseError:
    remedy = (
        "leave out --exact-images" if exact_jpeg else "save it smaller, or as a JPEG that isn't progressive"
    )
    return ParseError("too-many-pixels", f"its {size} pixels are more than {MAX_PIXELS:,}; {remedy}")


def _load(image: ImageFile.ImageFile) -> Exception | None:
    """Decode a picture; what is wrong with it where only a part could be. Raises what Pillow raises."""
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image.load()
        except MemoryError:
            raise
        except Exception:
            raise error from None
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
        return error
    return None


def _draft(image: JpegImageFile, spec: ImageSpec) -> tuple[float, float, float, float] | None:
    """Have a JPEG decoded smaller; the part of the result that is picture, or None where nothing changed."""
    size = image.size
    drafted = image.draft(None, _least_size(image, size, spec))
    return None if drafted is None or image.size == size else drafted[1]


def _spare_scans(image: JpegImageFile, size: tuple[int, int], spec: ImageSpec) -> None:
    """Have a progressive JPEG of this size decoded up to the last scan that the picture needs.

    All of it where it isn't whole, or isn't to become small.
    """
    width, height = _least_size(image, size, spec)
    if image.fp is None or image.width < width or image.height < height:
        return
    components = scans.components(image.layer, image.quantization, image.decoderconfig[0])
    end = scans.end_of_needed(scans.scans(image.fp), components)
    if end is not None:
        image.fp = cast(IO[bytes], scans.Until(image.fp, end))


def _least_size(image: JpegImageFile, size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    """What a JPEG of this size is to be decoded to at least."""
    width, height = _stored_size(size, image.getexif().get(_ORIENTATION, 1), spec)
    return DRAFT_FACTOR * width, DRAFT_FACTOR * height


def _stored_size(size: tuple[int, int], orientation: int, spec: ImageSpec) -> tuple[int, int]:
    """What a picture of `size` is resized to before it is turned upright."""
    if orientation in _TURNED:
        height, width = _resized_size(size[::-1], spec)
        return width, height
    return _resized_size(size, spec)


def to_rgb(image: Image) -> Image:
    """RGB of a picture in any mode. What the picture says of its transparent colour is forgotten."""
    if image.mode.startswith(("I", "F")):
        image = fromarray(_to_8_bit(np.asarray(image)))
    if image.mode == "RGB":
        return image
    # Alpha is dropped, as open_clip drops it; Pillow would warn of a palette's.
    image.info.pop("transparency", None)
    return image.convert("RGB")


def _to_8_bit(samples: npt.NDArray[Any]) -> Pixels:
    """uint8 [h, w] of grey samples: by their type's range, or the smallest usual one that holds them all."""
    if samples.dtype.itemsize == 2:
        # The high byte, which is what Pillow takes of 16-bit colour.
        return (samples >> 8).astype(np.uint8)
    values = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1 and samples.dtype.kind == "f":
        low, high = 0, 1
    elif low >= 0 and high <= 65535:
        low, high = 0, 255 if high <= 255 else 65535
    scaled: Pixels = np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return scaled


def _resized_size(size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    """(width, height) that open_clip resizes a picture of `size` (width, height) to, before it crops."""
    width, height = size
    target_height, target_width = spec.size
    if spec.resize_mode == "squash":
        return target_width, target_height
    if spec.resize_mode == "shortest" and target_width == target_height:
        # torchvision's Resize of one number cuts the longer side off; ResizeKeepRatio below rounds it.
        if width <= height:
            return target_width, int(target_width * height / width)
        return int(target_width * width / height), target_width
    ratios = (height / target_height, width / target_width)
    ratio = max(ratios) if spec.resize_mode == "longest" else min(ratios)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _resampling(spec: ImageSpec) -> Resampling:
    height, width = spec.size
    # open_clip doesn't hand the interpolation on to ResizeKeepRatio here, whose default is bicubic.
    bicubic = spec.resize_mode == "shortest" and width != height
    return Resampling.BICUBIC if bicubic else _RESAMPLING[spec.interpolation]


def _fit(image: Image, spec: ImageSpec) -> Pixels:
    """Resize RGB, and crop or pad what comes out."""
    width, height = _resized_size(image.size, spec)
    target_height, target_width = spec.size
    if width * height > MAX_PIXELS:
        # One pixel by ten thousand: resize only what the crop keeps.
        left, top = round((width - target_width) / 2), round((height - target_height) / 2)
        x, y = image.width / width, image.height / height
        box = (left * x, top * y, (left + target_width) * x, (top + target_height) * y)
        return np.array(image.resize((target_width, target_height), _resampling(spec), box))
    return _crop(image.resize((width, height), _resampling(spec)), spec)


def _crop(image: Image, spec: ImageSpec) -> Pixels:
    """The middle of RGB that is resized already, on a ground of the fill colour where it is too small."""
    height, width = spec.size
    if image.size == (width, height):
        return np.array(image)
    # As torchvision rounds: half to even where it crops, down where it pads.
    across, down = image.width - width, image.height - height
    left = round(across / 2) if across > 0 else -(-across // 2)
    top = round(down / 2) if down > 0 else -(-down // 2)
    fill = spec.fill_color if spec.resize_mode == "longest" else 0
    canvas = new("RGB", (width, height), (fill, fill, fill))
    canvas.paste(image, (-left, -top))
    return np.array(canvas)


@contextmanager
def _errors_as_parse_error() -> Iterator[None]:
    """What Pillow says of a file's content becomes a ParseError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ParseError, MemoryError):
        raise
    except OSError as error:
        # Pillow uses OSError for damage too; one of the operating system's has a number.
        if error.errno is not None:
            raise
        raise _damaged(error) from error
    except Exception as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> ParseError:
    if isinstance(error, DecompressionBombError):
        return _too_many_pixels("many")
    said = str(error) or type(error).__name__
    words = next((words for pattern, words in _IN_WORDS if pattern.search(said)), None)
    return ParseError("damaged-image", f"not a readable picture: {words or f'its data is damaged ({said})'}")
