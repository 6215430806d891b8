import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image, ImageFile

from engine.errors import ParseError
from engine.models.spec import ImageSpec
from engine.parsers.image import decode as image_parser
from engine.parsers.image.decode import prepare
from engine.records import PictureSection, Pixels, Section, SectionFailure
from tests.parsers import parsing


def parse(
    path: str,
    media_type: str,
    spec: ImageSpec,
    exact: bool = False,
    tolerate_truncated: bool = False,
    resume: str | None = None,
) -> Iterator[Section]:
    return parsing.parse(
        media_type,
        path,
        resume,
        image_spec=lambda: spec,
        exact_images=exact,
        tolerate_truncated=tolerate_truncated,
    )


def _spec(
    size: tuple[int, int] = (32, 32),
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest",
    interpolation: Literal["bicubic", "bilinear"] = "bicubic",
    fill_color: int = 0,
) -> ImageSpec:
    return ImageSpec(
        "model", None, "digest", 8, True, size, (0, 0, 0), (1, 1, 1), resize_mode, interpolation, fill_color
    )


def _photo(width: int, height: int) -> Image.Image:
    """Smooth colours with some noise, the same each time."""
    source = np.random.default_rng(width * height)
    coarse = source.integers(0, 256, (max(2, height // 20), max(2, width // 20), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = smooth + source.integers(-10, 11, smooth.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _save(folder: Path, image: Image.Image, kind: str, **options: Any) -> str:
    path = folder / f"picture.{kind}"
    image.save(path, kind, **options)
    return str(path)


def _pixels(path: str, kind: str, spec: ImageSpec | None = None, exact: bool = True) -> Pixels:
    (section,) = parse(path, f"image/{kind}", spec or _spec(), exact)
    assert isinstance(section, PictureSection)
    return section.pixels


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(32, 32), (33, 33), (40, 24), (24, 40)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_equal_open_clips_preprocessing(
    resize_mode: Literal["shortest", "longest", "squash"],
    size: tuple[int, int],
    interpolation: Literal["bicubic", "bilinear"],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from open_clip.transform import image_transform
    fill = 90
    transform = image_transform(
        size, False, (0, 0, 0), (1, 1, 1), resize_mode, interpolation=interpolation, fill_color=fill
    )
    for width, height in [(64, 48), (47, 65), (32, 32), (20, 10), (200, 9), (33, 70)]:
        picture = _photo(width, height)
        expected = (transform(picture) * 255).round().byte().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(
            prepare(picture, _spec(size, resize_mode, interpolation, fill)), expected, f"{width} x {height}"
        )


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff", "bmp"])
def test_every_format_is_decoded_to_the_models_size(tmp_path: Path, kind: str) -> None:
    picture = _photo(80, 60)
    path = _save(tmp_path, picture, kind)
    pixels = _pixels(path, kind)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - prepare(picture, _spec())).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_a_picture_comes_upright_whatever_its_orientation(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    # Stored so that a reader who honours the tag sees red at the top left, blue at the bottom left.
    upright = Image.new("RGB", (64, 96), "white")
    upright.paste("red", (0, 0, 32, 48))
    upright.paste("blue", (0, 48, 32, 96))
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if inverse is None else upright.transpose(inverse)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path, stored, kind, exif=exif, **({"quality": 95} if kind in ("jpeg", "webp") else {}))
    for exact in (True, False):
        pixels = _pixels(path, kind, _spec(resize_mode="squash"), exact).astype(int)
        assert np.abs(pixels[8, 8] - (255, 0, 0)).max() < 30
        assert np.abs(pixels[24, 8] - (0, 0, 255)).max() < 30
        assert np.abs(pixels[16, 24] - (255, 255, 255)).max() < 30


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_colour_mode_is_what_convert_makes_of_it(mode: str) -> None:
    picture = _photo(40, 40).convert("RGB" if mode == "LAB" else mode)
    if mode == "LAB":
        picture = Image.merge("LAB", picture.split())
    np.testing.assert_array_equal(prepare(picture, _spec()), prepare(picture.convert("RGB"), _spec()))


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    picture = _photo(40, 40).quantize(8)
    path = _save(tmp_path, picture, "png", transparency=bytes([0, 128, 255, 255, 255, 255, 255, 255]))
    np.testing.assert_array_equal(_pixels(path, "png"), prepare(picture, _spec()))


@pytest.mark.parametrize(
    ("samples", "kind"),
    [
        (np.array([[0, 65535], [32768, 65535]], np.uint16), "png"),
        (np.array([[0, 65535], [32768, 65535]], np.uint16), "tiff"),
        (np.array([[0, 65535], [32896, 65535]], np.int32), "tiff"),
        (np.array([[0, 255], [128, 255]], np.int32), "tiff"),
        (np.array([[0, 1], [0.502, 1]], np.float32), "tiff"),
        (np.array([[-1, 1], [0.004, 1]], np.float32), "tiff"),
    ],
)
def test_deep_greys_keep_their_proportions(tmp_path: Path, samples: Any, kind: str) -> None:
    path = _save(tmp_path, Image.fromarray(samples), kind)
    pixels = _pixels(path, kind, _spec((2, 2)))
    assert pixels[:, :, 0].tolist() == [[0, 255], [128, 255]]
    assert (pixels[:, :, :1] == pixels).all()


def test_a_float_picture_with_holes_is_read(tmp_path: Path) -> None:
    samples = np.array([[np.nan, 1], [0.5, np.inf]], np.float32)
    assert _pixels(_save(tmp_path, Image.fromarray(samples), "tiff"), "tiff", _spec((2, 2)))[0, 1, 0] == 255


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    path = _save(tmp_path, frames[0], "gif", save_all=True, append_images=frames[1:])
    (section,) = parse(path, "image/gif", _spec())
    assert isinstance(section, PictureSection)
    assert section.page is None
    assert section.pixels[0, 0].tolist() == [255, 0, 0]


def _tiff_of_three(folder: Path) -> str:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "lime", "blue")]
    return _save(folder, frames[0], "tiff", save_all=True, append_images=frames[1:])


def test_each_frame_of_a_tiff_is_a_page(tmp_path: Path) -> None:
    path = _tiff_of_three(tmp_path)
    sections = list(parse(path, "image/tiff", _spec()))
    assert [section.page for section in sections] == [1, 2, 3]
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    for section, colour in zip(sections, ([255, 0, 0], [0, 255, 0], [0, 0, 255]), strict=True):
        assert isinstance(section, PictureSection)
        assert section.pixels[0, 0].tolist() == colour
        assert section.content_hash == digest


def test_a_tiff_resumed_after_any_frame_yields_what_would_have_come(tmp_path: Path) -> None:
    path = _tiff_of_three(tmp_path)
    sections = list(parse(path, "image/tiff", _spec()))
    for i, section in enumerate(sections):
        assert isinstance(section, PictureSection)
        following = list(parse(path, "image/tiff", _spec(), resume=section.resume))
        assert [(s.unit, s.page) for s in following] == [(s.unit, s.page) for s in sections[i + 1 :]]


def test_a_broken_frame_is_reported_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = image_parser._decode

    def break_second(image: Any, *rest: Any) -> tuple[Pixels, bool]:
        if image.tell() == 1:
            raise OSError("decoder error -2")
        return decode(image, *rest)

    monkeypatch.setattr(image_parser, "_decode", break_second)
    first, second, third = parse(_tiff_of_three(tmp_path), "image/tiff", _spec())
    assert isinstance(second, SectionFailure)
    assert (second.page, second.error_type) == (2, "damaged-image")
    assert isinstance(first, PictureSection)
    assert isinstance(third, PictureSection)


@pytest.mark.parametrize("size", [(1200, 900), (901, 1200), (97, 96), (40, 30)])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_a_jpeg_read_at_a_smaller_scale_stays_close_to_the_exact_one(
    tmp_path: Path, size: tuple[int, int], resize_mode: Literal["shortest", "longest", "squash"]
) -> None:
    path = _save(tmp_path, _photo(*size), "jpeg", quality=90)
    spec = _spec(resize_mode=resize_mode)
    exact, draft = (
        _pixels(path, "jpeg", spec).astype(int),
        _pixels(path, "jpeg", spec, exact=False).astype(int),
    )
    assert np.abs(exact - draft).mean() < 1


def test_a_draft_is_decoded_at_no_less_than_its_factor_times_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    to_rgb = image_parser.to_rgb

    def look(image: Image.Image) -> Image.Image:
        seen.append(image.size)
        return to_rgb(image)

    monkeypatch.setattr(image_parser, "to_rgb", look)
    path = _save(tmp_path, _photo(1600, 800), "jpeg")
    _pixels(path, "jpeg", exact=False)
    _pixels(path, "jpeg", exact=True)
    assert seen == [(200, 100), (1600, 800)]


def test_the_limit_on_pixels_is_checked_before_decoding_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_parser, "MAX_PIXELS", 5_000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ParseError, match="100 x 80 pixels are more than 5,000") as error:
        _pixels(_save(tmp_path, _photo(100, 80), "png"), "png")
    assert error.value.error_type == "too-many-pixels"


def test_a_jpeg_beyond_the_limit_is_read_at_a_smaller_scale_unless_it_is_progressive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_parser, "MAX_PIXELS", 100_000)
    path = _save(tmp_path, _photo(1600, 800), "jpeg")
    assert _pixels(path, "jpeg", exact=False).shape == (32, 32, 3)
    with pytest.raises(ParseError, match="1600 x 800"):
        _pixels(path, "jpeg", exact=True)
    path = _save(tmp_path, _photo(1600, 800), "jpeg", progressive=True)
    with pytest.raises(ParseError, match="1600 x 800"):
        _pixels(path, "jpeg", exact=False)


def test_a_strip_of_extreme_proportions_is_resized_only_where_it_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = _photo(1000, 20)
    whole = prepare(picture, _spec())
    monkeypatch.setattr(image_parser, "MAX_PIXELS", 1)
    assert np.abs(prepare(picture, _spec()).astype(int) - whole).max() <= 1


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff", "bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_picture_that_ends_too_early_is_an_error(tmp_path: Path, kind: str, share: float) -> None:
    path = Path(_save(tmp_path, _photo(200, 150), kind))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ParseError, match="not a readable picture") as error:
        _pixels(str(path), kind)
    assert error.value.error_type == "damaged-image"


def test_a_truncated_picture_is_taken_where_that_is_tolerated_and_the_switch_goes_back(
    tmp_path: Path,
) -> None:
    path = Path(_save(tmp_path, _photo(200, 150), "jpeg"))
    path.write_bytes(path.read_bytes()[:-1500])
    (section,) = parse(str(path), "image/jpeg", _spec(), exact=True, tolerate_truncated=True)
    assert isinstance(section, PictureSection)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff", "bmp"])
def test_damage_anywhere_gives_a_picture_or_a_parse_error_and_nothing_else(tmp_path: Path, kind: str) -> None:
    data = Path(_save(tmp_path, _photo(60, 50), kind)).read_bytes()
    source = np.random.default_rng(7)
    for i in range(60):
        broken = bytearray(data)
        for at in source.integers(0, min(len(data), 400), 6):
            broken[at] = source.integers(0, 256)
        path = tmp_path / f"{i}.{kind}"
        path.write_bytes(broken)
        try:
            for section in parse(str(path), f"image/{kind}", _spec()):
                assert isinstance(section, (PictureSection, SectionFailure))
        except ParseError as error:
            assert str(error)


def test_a_name_that_is_not_utf8_can_be_opened(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png")
    out = io.BytesIO()
    _photo(40, 40).save(out, "png")
    with open(name, "wb") as file:
        file.write(out.getvalue())
    assert _pixels(name, "png").shape == (32, 32, 3)


def test_frames_beyond_the_limit_are_told_and_those_before_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_parser, "MAX_FRAMES", 2)
    sections = parse(_tiff_of_three(tmp_path), "image/tiff", _spec())
    assert [section.page for section in (next(sections), next(sections))] == [1, 2]
    with pytest.raises(ParseError, match="more than 2 frames") as error:
        next(sections)
    assert error.value.error_type == "too-many-frames"
    monkeypatch.setattr(image_parser, "MAX_FRAMES", 3)
    assert len(list(parse(_tiff_of_three(tmp_path), "image/tiff", _spec()))) == 3


def test_a_tiff_whose_second_directory_is_damaged_gives_its_first_frame(tmp_path: Path) -> None:
    path = Path(_tiff_of_three(tmp_path))
    data = bytearray(path.read_bytes())
    at = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[at : at + 2], "little")
    link = at + 2 + 12 * entries
    data[link : link + 4] = (len(data) + 1000).to_bytes(4, "little")
    path.write_bytes(data)
    first, second = parse(str(path), "image/tiff", _spec())
    assert isinstance(first, PictureSection)
    assert isinstance(second, SectionFailure)
    assert (first.page, second.page) == (1, 2)


def test_a_progressive_jpeg_of_too_many_scans_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path, _photo(200, 100), "jpeg", progressive=True)
    scans = Path(path).read_bytes().count(b"\xff\xda")
    assert scans > 2
    monkeypatch.setattr(image_parser, "MAX_SCANNED_PIXELS", 200 * 100 * scans)
    assert _pixels(path, "jpeg").shape == (32, 32, 3)
    monkeypatch.setattr(image_parser, "MAX_SCANNED_PIXELS", 200 * 100 * scans - 1)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ParseError, match="200 x 100 pixels are refined by too many scans") as error:
        _pixels(path, "jpeg")
    assert error.value.error_type == "too-many-scans"
