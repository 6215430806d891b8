from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import adapters
import engine
from engine import sources
from engine.errors import SchemaMismatchError, UsageError
from engine.sources.memory import held

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "corpus"


@pytest.fixture
def picture() -> Image.Image:
    """48 x 32 pixels, no two alike."""
    pixels = np.arange(48 * 32 * 3, dtype=np.uint32).reshape(32, 48, 3) * 7 % 251
    return Image.fromarray(pixels.astype(np.uint8))


def opened(path: Path) -> Image.Image:
    """A picture that holds no file open."""
    return Image.open(io.BytesIO(path.read_bytes()))


class TestRecords:
    def test_a_named_text_is_as_a_file_of_that_name(
        self, model: engine.EmbeddingModel, tmp_path: Path
    ) -> None:
        text = "# Bees\n\nThey dance.\n\n## Wax\n\n" + "It melts. " * 200
        (tmp_path / "bees.md").write_text(text)
        config = engine.TextEmbedConfig(chunk_size=64)
        filed = list(engine.embed_file(tmp_path / "bees.md", model, config))
        mine = list(engine.embed_items([("notes/bees.md", text)], model, config))
        assert len(mine) == len(filed) > 3
        for one, other in zip(mine, filed, strict=True):
            assert (one.text, one.start, one.headings) == (other.text, other.start, other.headings)
            assert (one.media_type, one.size, one.title) == (other.media_type, other.size, other.title)
            assert (one.source, one.mtime.year) == ("memory://notes/bees.md", 1970)
            assert np.array_equal(one.embedding, other.embedding)

    def test_bytes_are_what_they_are(self, model: engine.EmbeddingModel) -> None:
        path = EXAMPLES / "essays" / "craft" / "lighthouses.pdf"
        filed = [record.text for record in engine.embed_file(path, model)]
        mine = list(engine.embed_items([path.read_bytes(), (path.name, bytearray(path.read_bytes()))], model))
        assert [record.text for record in mine] == filed * 2
        assert {record.media_type for record in mine} == {"application/pdf"}
        assert mine[0].source == f"memory://sha256-{mine[0].source[-32:]}"
        assert mine[-1].source == "memory://lighthouses.pdf"

    def test_pictures_have_the_vector_of_their_file(
        self, model: engine.EmbeddingModel, picture: Image.Image, tmp_path: Path
    ) -> None:
        picture.save(tmp_path / "a.png")
        (filed,) = engine.embed_file(tmp_path / "a.png", model)
        given: list[Any] = [
            picture,
            np.asarray(picture),
            ("a", picture),
            picture.convert("RGBA"),
            opened(tmp_path / "a.png"),
        ]
        for record in engine.embed_items(given, model):
            assert (record.kind, record.page, record.text) == ("image", None, None)
            assert np.array_equal(record.embedding, filed.embedding)

    def test_pictures_are_brought_upright(self, model: engine.EmbeddingModel, tmp_path: Path) -> None:
        turned = sorted((EXAMPLES / "pictures" / "jpg").glob("*.jpg"))
        turned = [path for path in turned if opened(path).getexif().get(0x0112, 1) != 1][:3]
        assert turned
        config = engine.TextEmbedConfig(exact_images=True)
        for path in turned:
            (filed,) = engine.embed_file(path, model, config)
            (mine,) = engine.embed_items([opened(path)], model)
            assert np.array_equal(mine.embedding, filed.embedding)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
    def test_pictures_of_every_mode_are_taken(self, model: engine.EmbeddingModel, mode: str) -> None:
        image = Image.new(mode, (20, 10))
        assert len(list(engine.embed_items([image], model))) == 1
        assert image.mode == mode

    def test_grey_arrays_and_batches_are_pictures(self, model: engine.EmbeddingModel) -> None:
        grey = np.full((8, 6), 77, dtype=np.uint8)
        shapes = [
            grey,
            grey[:, :, None],
            np.repeat(grey[:, :, None], 3, 2),
            np.repeat(grey[:, :, None], 4, 2),
        ]
        records = list(engine.embed_items(shapes, model))
        assert len({record.source for record in records}) == 1
        assert len(list(engine.embed_items(np.zeros((3, 8, 6, 3), dtype=np.uint8), model))) == 3

    def test_items_are_asked_for_one_after_another(self, model: engine.EmbeddingModel) -> None:
        asked: list[int] = []

        def texts() -> Iterator[tuple[str, str]]:
            for number in range(100):
                asked.append(number)
                yield f"note {number}", f"Note {number}."

        records = engine.embed_items(texts(), model, engine.TextEmbedConfig(buffer_size=4))
        assert asked == []
        assert next(records).source == "memory://note 0"
        assert asked == [0, 1, 2, 3]

    def test_a_mapping_is_names_and_contents(self, model: engine.EmbeddingModel) -> None:
        (record,) = engine.embed_items({"note": "Bees."}, model)
        assert (record.source, record.text) == ("memory://note", "Bees.")

    def test_what_no_record_can_hold_is_replaced(self, model: engine.EmbeddingModel) -> None:
        (record,) = engine.embed_items([("a\ud800", "Nul \0 and half \ud83d.")], model)
        assert (record.source, record.text) == ("memory://a\ufffd", "Nul   and half \ufffd.")


class TestAdapter:
    def test_written_twice_nothing_doubles(
        self, model: engine.EmbeddingModel, picture: Image.Image, url: str, tmp_path: Path
    ) -> None:
        for target in (url, f"lancedb://{tmp_path}/db"):
            for _ in range(2):
                given: list[Any] = [
                    ("a", "Bees."),
                    ("b", "Tea."),
                    picture,
                    np.asarray(picture),
                    b"Some bytes.",
                ]
                summary = engine.embed_items(given, model, adapter=target)
                # An array and the picture of its pixels are one and the same.
                assert (summary.files, summary.text, summary.image) == (5, 3, 2)
            adapter = adapters.connect(target)
            rows = list(adapter.scan())
            adapter.close()
            assert len({row["source"] for row in rows}) == len(rows) == 4
            with engine.Searcher(target, model) as searcher:
                assert searcher.search("Bees.", k=1, source_prefix="memory://").text[0].source == "memory://a"

    def test_pictures_alone_leave_the_text_model_open(
        self, model: engine.EmbeddingModel, picture: Image.Image, url: str
    ) -> None:
        assert engine.embed_items([picture], model, adapter=url).image == 1
        schema = adapters.connect(url).schema()
        assert schema is not None and schema.text_model is None

    def test_an_index_of_another_model_is_refused_before_anything_is_embedded(
        self, model: engine.EmbeddingModel, url: str
    ) -> None:
        engine.embed_items([("a", "Bees.")], model, adapter=url)
        with pytest.raises(SchemaMismatchError):
            engine.embed_items([("a", "Bees.")], "stand-in:32", adapter=url)
        assert engine.embed_items([], model, adapter=url).records == 0

    def test_items_that_can_not_be_embedded_are_told_and_the_others_stay(
        self, model: engine.EmbeddingModel, url: str, tmp_path: Path
    ) -> None:
        data = (EXAMPLES / "pictures" / "jpg" / "large-red-circle-on-white.jpg").read_bytes()
        (tmp_path / "broken.jpg").write_bytes(data[:700])
        broken = opened(tmp_path / "broken.jpg")
        given: list[Any] = [
            ("empty", ""),
            ("odd", b"\0\1\2" * 99),
            broken,
            ("half.jpg", data[:700]),
            ("a", "Bees."),
        ]
        summary = engine.embed_items(given, model, adapter=url)
        assert summary.records == 1
        assert summary.skipped == {"empty": 1, "unknown-type": 1}
        assert [failure.source for failure in summary.failures] == ["memory://items[2]", "memory://half.jpg"]
        assert all("\n" not in failure.message for failure in summary.failures)


class TestArguments:
    @pytest.mark.parametrize(
        ("items", "told"),
        [
            (["a text"], r"^items\[0\]: is a text without a name"),
            ([("a", "b"), 3], r"^items\[1\]: is of type int; give bytes, a PIL\.Image"),
            ([("a", 3)], r"^items\[0\]: is of type int"),
            ([("", "b")], r"^items\[0\]: the name '' is empty"),
            ([("a", "b", "c")], r"^items\[0\]: is of type tuple"),
            ([np.zeros((3, 4, 3))], r"^items\[0\]: is float64 \[3, 4, 3\]; give uint8"),
            ([np.zeros((3, 9, 9), dtype=np.uint8)], r"^items\[0\]: is uint8 \[3, 9, 9\]"),
            ([np.zeros((0, 9, 3), dtype=np.uint8)], r"^items\[0\]: is uint8 \[0, 9, 3\]"),
            (np.zeros((9, 9, 3), dtype=np.uint8), "^items: is of type ndarray; give a list"),
            (b"bytes", "^items: is of type bytes; give a list"),
            ("text", "^items: is of type str; give a list"),
            (Image.new("RGB", (2, 2)), "^items: is of type Image; give a list"),
            (None, "^items: is of type NoneType; give a list"),
        ],
    )
    def test_what_is_no_item_is_refused(self, model: engine.EmbeddingModel, items: Any, told: str) -> None:
        with pytest.raises(UsageError, match=told):
            list(engine.embed_items(items, model))

    def test_only_the_program_has_their_content(self) -> None:
        with pytest.raises(UsageError, match=r"^input memory://a: only a Python program"):
            sources.check_inputs(["memory://a"], None)
        with pytest.raises(UsageError, match=r"^input memory://a: "):
            sources.Corpus(["memory://a"])
        assert sources.find_item("memory://a") is None
        item = held(b"content", "a")
        with sources.open_item(item) as opened:
            assert Path(opened.path).read_bytes() == opened.stream().read() == b"content"
        assert sources.item_now(item) == item
