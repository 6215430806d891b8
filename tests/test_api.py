from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adapters
import engine
from adapters import memory
from adapters.memory import MemoryAdapter
from engine import parsers
from engine.api import in_process
from engine.errors import (
    DatabaseUnavailableError,
    ModelNotFoundError,
    ParseError,
    SchemaMismatchError,
    SkipFileError,
    UsageError,
)
from engine.records import Record, SectionFailure, TextSection, TokenIds, Vector
from engine.stages.index import IndexStage
from tests.integration.runs import Corpus

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "corpus"
ENCRYPTED = EXAMPLES / "odd" / "encrypted.pdf"

#: Seconds after which a program counts as hung.
HANG_S = 120.0


@pytest.fixture
def model() -> engine.EmbeddingModel:
    return engine.EmbeddingModel.from_pretrained("stand-in:16", "stand-in:8")


@pytest.fixture
def url() -> Iterator[str]:
    """An index in this process."""
    name = uuid.uuid4().hex
    yield f"memory://{name}"
    memory.drop(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five texts of one chunk each and two pictures."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(5):
        (folder / f"note {number}.txt").write_text(f"Note {number}.")
    Image.new("RGB", (40, 30), "red").save(folder / "red.png")
    Image.new("RGB", (40, 30), "blue").save(folder / "blue.JPG")
    return folder


def stored(url: str) -> dict[str, dict[str, object]]:
    return {str(row["id"]): row for row in adapters.connect(url).scan(with_embeddings=True)}


def count_calls(model: engine.EmbeddingModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of chunks that the text model is asked for, call by call."""
    embedder = model.load_text()
    embed, calls = embedder.embed_ids, list[int]()

    def counted(ids: Sequence[TokenIds], on_batch: Callable[[], None] | None = None) -> Vector:
        calls.append(len(ids))
        return embed(ids, on_batch)

    monkeypatch.setattr(embedder, "embed_ids", counted)
    return calls


def test_importing_the_package_imports_neither_torch_nor_the_stages() -> None:
    program = (
        "import sys, engine, engine.records; assert 'embed_file' in dir(engine);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'tokenizers', 'engine.api', 'lancedb')))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=HANG_S, check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    for name in engine.__all__:
        assert getattr(engine, name).__name__ == name
    with pytest.raises(AttributeError, match="embed_song"):
        engine.embed_song  # noqa: B018


class TestRecords:
    def test_a_file_gives_records_of_its_chunks(self, model: engine.EmbeddingModel, tmp_path: Path) -> None:
        path = tmp_path / "long.txt"
        path.write_text("A sentence of six words here. " * 100)
        config = engine.TextEmbedConfig(chunk_size=32, overlap=8, fields={"project": "bees"})
        records = list(engine.embed_file(path, model, config))
        assert len(records) > 10
        for record in records:
            assert record.text == path.read_text()[record.start : record.end]
            assert record.embedding.shape == (16,)
            assert record.embedding.dtype == np.float32
            assert (record.source, record.kind, record.model) == (str(path), "text", "stand-in:16")
            assert record.fields == {"project": "bees"}
        assert records[1].start is not None and records[0].end is not None
        assert records[1].start < records[0].end

    def test_a_folder_gives_texts_and_pictures(self, model: engine.EmbeddingModel, folder: Path) -> None:
        records = list(engine.embed_directory(folder, model))
        assert sorted(record.kind for record in records) == ["image"] * 2 + ["text"] * 5
        assert {record.embedding.shape for record in records} == {(16,), (8,)}

    def test_a_record_equals_that_of_the_same_text_as_a_query(
        self, model: engine.EmbeddingModel, folder: Path
    ) -> None:
        (record,) = engine.embed_file(folder / "note 3.txt", model)
        assert np.array_equal(record.embedding, engine.embed_query("Note 3.", model))

    def test_nothing_is_embedded_before_it_is_asked_for(
        self, model: engine.EmbeddingModel, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = count_calls(model, monkeypatch)
        records = engine.embed_directory(folder, model, ["txt"], engine.TextEmbedConfig(buffer_size=2))
        assert calls == []
        next(records)
        assert calls == [2]
        assert len(list(records)) == 4
        assert calls == [2, 2, 1]

    @pytest.mark.parametrize("extensions", [["jpg", "TXT"], [".jpg", "*.txt"]])
    def test_extensions_are_taken_with_and_without_dot_in_any_case(
        self, model: engine.EmbeddingModel, folder: Path, extensions: list[str]
    ) -> None:
        names = {Path(record.source).name for record in engine.embed_directory(folder, model, extensions)}
        assert names == {"blue.JPG", *(f"note {number}.txt" for number in range(5))}

    @pytest.mark.parametrize("extensions", [[], ["t?t"], ["[a]"], [""], [7]])
    def test_an_extension_that_is_none_is_refused(
        self, model: engine.EmbeddingModel, folder: Path, extensions: list[str]
    ) -> None:
        with pytest.raises(UsageError, match="extensions"):
            engine.embed_directory(folder, model, extensions)

    def test_extensions_that_no_parser_reads_are_warned_of(
        self, model: engine.EmbeddingModel, folder: Path
    ) -> None:
        with pytest.warns(engine.EmbedWarning, match="^extensions: no parser reads HEIC files$") as warned:
            records = list(engine.embed_directory(folder, model, ["txt", ".HEIC", "py", "tar.json"]))
        assert (len(records), len(warned)) == (5, 1)
        assert warned[0].filename == __file__

    def test_pictures_are_known_by_their_content(self, model: engine.EmbeddingModel, folder: Path) -> None:
        (folder / "no picture.png").write_text("Words.")
        records = list(engine.embed_image_directory(folder, model))
        assert {Path(record.source).name for record in records} == {"red.png", "blue.JPG"}

    def test_pictures_can_be_left_out(self, model: engine.EmbeddingModel, folder: Path) -> None:
        config = engine.TextEmbedConfig(images=False)
        assert {record.kind for record in engine.embed_directory(folder, model, config=config)} == {"text"}

    def test_a_text_folder_asks_for_no_image_model(self, folder: Path) -> None:
        model = engine.EmbeddingModel.from_pretrained("stand-in:16")
        assert len(list(engine.embed_directory(folder, model, ["txt"]))) == 5
        assert "image_model=None" in repr(model)


class TestFailures:
    def test_a_file_that_can_not_be_parsed_raises(self, model: engine.EmbeddingModel, url: str) -> None:
        with pytest.raises(ParseError, match=r"encrypted\.pdf") as raised:
            list(engine.embed_file(ENCRYPTED, model))
        assert raised.value.error_type == "encrypted"
        with pytest.raises(ParseError, match=r"encrypted\.pdf"):
            engine.embed_file(ENCRYPTED, model, adapter=url)

    def test_a_file_that_a_rule_leaves_out_raises(self, model: engine.EmbeddingModel, tmp_path: Path) -> None:
        path = tmp_path / "nothing.txt"
        path.touch()
        with pytest.raises(SkipFileError, match=r"empty: .*nothing\.txt"):
            list(engine.embed_file(path, model))

    def test_what_comes_before_the_trouble_is_handed_out_first(
        self, model: engine.EmbeddingModel, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def parse(*_: object) -> Iterator[TextSection]:
            yield TextSection(0, 1, 0, "A good page.", "1")
            raise ParseError("damaged", "the rest is missing")

        monkeypatch.setattr(parsers, "parse", parse)
        records = engine.embed_file(folder / "note 0.txt", model)
        assert next(records).text == "A good page."
        with pytest.raises(ParseError, match="the rest is missing"):
            next(records)

    def test_a_page_that_fails_alone_is_told_and_the_others_stay(
        self, model: engine.EmbeddingModel, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def parse(*_: object) -> Iterator[TextSection | SectionFailure]:
            yield TextSection(0, 1, 0, "A good page.", "1")
            yield SectionFailure(1, 2, "damaged", "no such font")

        monkeypatch.setattr(parsers, "parse", parse)
        path = folder / "note 0.txt"
        told = list[engine.Failure]()
        assert len(list(engine.embed_file(path, model, on_failure=told.append))) == 1
        assert told == [engine.Failure(str(path), 2, "parse", "damaged", "no such font")]
        assert str(told[0]) == f"{path} (page 2): damaged: no such font"
        summary = engine.embed_file(path, model, adapter=url)
        assert (summary.files, summary.records, summary.failures) == (1, 1, told)

    def test_a_file_of_failed_pages_only_raises(
        self, model: engine.EmbeddingModel, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            parsers, "parse", lambda *_: iter([SectionFailure(0, 1, "damaged", "no such font")])
        )
        with pytest.raises(ParseError, match="no such font"):
            list(engine.embed_file(folder / "note 0.txt", model, on_failure=lambda failure: None))

    def test_a_folder_warns_of_a_file_that_fails_and_goes_on(
        self, model: engine.EmbeddingModel, folder: Path
    ) -> None:
        shutil.copy(ENCRYPTED, folder)
        with pytest.warns(engine.EmbedWarning, match=r"encrypted\.pdf: encrypted: "):
            assert len(list(engine.embed_directory(folder, model))) == 7

    def test_or_gives_it_to_the_callback(self, model: engine.EmbeddingModel, folder: Path) -> None:
        shutil.copy(ENCRYPTED, folder)
        told = list[engine.Failure]()
        assert len(list(engine.embed_directory(folder, model, on_failure=told.append))) == 7
        assert [(Path(one.source).name, one.error_type) for one in told] == [("encrypted.pdf", "encrypted")]

    def test_a_file_that_changes_while_it_is_read_fails(
        self, model: engine.EmbeddingModel, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = folder / "note 0.txt"

        def parse(*_: object) -> Iterator[TextSection]:
            path.write_text("Something else, and longer.")
            yield TextSection(0, None, 0, "Note 0.", "1")

        monkeypatch.setattr(parsers, "parse", parse)
        with pytest.raises(ParseError, match="changed while it was read"):
            list(engine.embed_file(path, model))

    def test_a_vector_that_is_not_finite_is_a_failure(
        self, model: engine.EmbeddingModel, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nothing = np.full((1, 16), np.nan, dtype=np.float32)
        monkeypatch.setattr(model.load_text(), "embed_ids", lambda *_: nothing)
        told = list[engine.Failure]()
        assert list(engine.embed_file(folder / "note 0.txt", model, on_failure=told.append)) == []
        assert [failure.stage for failure in told] == ["infer"]

    def test_a_vector_that_is_not_finite_is_not_written(
        self, model: engine.EmbeddingModel, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def embed(ids: Sequence[TokenIds], *_: object) -> Vector:
            vectors = np.ones((len(ids), 16), dtype=np.float32)
            vectors[2] = np.inf
            return vectors

        monkeypatch.setattr(model.load_text(), "embed_ids", embed)
        summary = engine.embed_directory(folder, model, ["txt"], adapter=url)
        assert (summary.records, len(stored(url))) == (4, 4)
        assert [(one.stage, one.error_type) for one in summary.failures] == [("infer", "refused")]


class TestAdapter:
    def test_a_folder_is_written_and_summed_up(
        self, model: engine.EmbeddingModel, folder: Path, url: str
    ) -> None:
        shutil.copy(ENCRYPTED, folder)
        (folder / "empty.txt").touch()
        summary = engine.embed_directory(folder, model, adapter=url)
        assert (summary.files, summary.records, summary.text, summary.image) == (7, 7, 5, 2)
        assert summary.tokens > 5
        assert summary.skipped == {"empty": 1}
        assert [failure.error_type for failure in summary.failures] == ["encrypted"]
        assert len(stored(url)) == 7

    def test_the_records_are_those_of_the_iterator(
        self, model: engine.EmbeddingModel, folder: Path, url: str
    ) -> None:
        engine.embed_directory(folder, model, adapter=url)
        rows = stored(url)
        for record in engine.embed_directory(folder, model):
            row = rows.pop(record.id)
            assert (row["text"], row["source"], row["mtime"]) == (record.text, record.source, record.mtime)
            assert np.array_equal(row[f"{record.kind}_embedding"], record.embedding)  # type: ignore[arg-type]
        assert rows == {}

    def test_written_twice_nothing_doubles(
        self, model: engine.EmbeddingModel, folder: Path, tmp_path: Path
    ) -> None:
        url = f"lancedb://{tmp_path}/db"
        for _ in range(2):
            assert engine.embed_directory(folder, model, adapter=url).records == 7
        adapter = adapters.connect(url)
        assert adapter.count() == 7
        adapter.close()

    def test_ids_and_vectors_are_those_of_the_command(
        self, model: engine.EmbeddingModel, tmp_path: Path, url: str
    ) -> None:
        corpus = Corpus(tmp_path)
        for name in ("garden", "odd"):
            shutil.copytree(EXAMPLES / name, corpus.files / name)
        shutil.copytree(EXAMPLES / "pictures" / "gif", corpus.files / "gif")
        assert corpus.run("--chunk-size", "64", "--chunk-overlap", "8", "--exact-images").code in (0, 3)
        theirs = corpus.records()
        config = engine.TextEmbedConfig(chunk_size=64, overlap=8, exact_images=True)
        summary = engine.embed_directory(corpus.files, model, config=config, adapter=url)
        mine = stored(url)
        assert mine.keys() == theirs.keys()
        assert len(mine) == summary.records > 50
        for key, row in mine.items():
            for name in set(row) - {"indexed_at", "text_embedding", "image_embedding"}:
                assert row[name] == theirs[key][name]
            for name in ("text_embedding", "image_embedding"):
                assert np.array_equal(row[name], theirs[key][name])  # type: ignore[arg-type]
        # Over the command's own index nothing is added.
        again = engine.embed_directory(corpus.files, model, config=config, adapter=corpus.url)
        assert again.records == len(mine)
        assert corpus.records().keys() == theirs.keys()

    def test_vectors_are_let_go_once_they_are_written(
        self, model: engine.EmbeddingModel, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(in_process, "IndexStage", partial(IndexStage, bulk_bytes=32 * 1024))
        folder = tmp_path / "many"
        folder.mkdir()
        for number in range(600):
            (folder / f"{number}.txt").write_text(f"Note {number}.")
        living, written = list[int](), list[weakref.ref[Vector]]()

        class Sink(MemoryAdapter):
            def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
                assert maybe_present
                gc.collect()
                written.extend(weakref.ref(record.embedding) for record in records)
                living.append(sum(reference() is not None for reference in written))
                return [None] * len(records)

        summary = engine.embed_directory(
            folder, model, config=engine.TextEmbedConfig(buffer_size=32), adapter=Sink(url.partition("//")[2])
        )
        assert summary.records == len(written) == 600
        assert max(living) < 200

    def test_a_refused_record_is_a_failure_and_the_others_are_written(
        self, model: engine.EmbeddingModel, folder: Path, url: str
    ) -> None:
        class Picky(MemoryAdapter):
            def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
                return ["too dull" if record.text == "Note 2." else None for record in records]

        adapter = Picky(url.partition("//")[2])
        summary = engine.embed_directory(folder, model, ["txt"], adapter=adapter)
        assert summary.records == 4
        (failure,) = summary.failures
        assert (failure.stage, failure.error_type, Path(failure.source).name) == (
            "index",
            "refused",
            "note 2.txt",
        )
        assert "too dull" in failure.message

    def test_a_database_that_comes_back_loses_nothing(
        self, model: engine.EmbeddingModel, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(in_process, "FIRST_RETRY_S", 0.001)
        troubles = [DatabaseUnavailableError("down"), DatabaseUnavailableError("down")]

        class Flaky(MemoryAdapter):
            def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
                if troubles:
                    raise troubles.pop()
                return super().write(records, maybe_present)

        summary = engine.embed_directory(folder, model, adapter=Flaky(url.partition("//")[2]))
        assert summary.records == len(stored(url)) == 7

    def test_a_database_that_stays_away_is_raised_and_the_rest_published(
        self, model: engine.EmbeddingModel, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(in_process, "DATABASE_PATIENCE_S", 0.0)
        published = list[bool]()

        class Down(MemoryAdapter):
            def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
                raise DatabaseUnavailableError("down")

            def publish(self, expected: int | None = None) -> None:
                published.append(True)

        with pytest.raises(DatabaseUnavailableError):
            engine.embed_directory(folder, model, adapter=Down(url.partition("//")[2]))
        assert published == [True]

    def test_an_index_of_another_model_is_refused_before_anything_is_embedded(
        self, model: engine.EmbeddingModel, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine.embed_directory(folder, model, adapter=url)
        for other in (
            engine.EmbeddingModel.from_pretrained("stand-in:17", "stand-in:8"),
            engine.EmbeddingModel.from_pretrained("stand-in:16", "stand-in:9"),
        ):
            calls = count_calls(other, monkeypatch)
            with pytest.raises(SchemaMismatchError):
                engine.embed_directory(folder, other, adapter=url)
            assert calls == []

    def test_an_index_of_pictures_takes_any_text_model_later(
        self, model: engine.EmbeddingModel, folder: Path, url: str
    ) -> None:
        engine.embed_image_directory(folder, model, adapter=url)
        engine.embed_file(folder / "red.png", model, adapter=url)
        other = engine.EmbeddingModel.from_pretrained("stand-in:32", "stand-in:8")
        assert engine.embed_directory(folder, other, adapter=url).text == 5
        assert len(stored(url)) == 7


class TestArguments:
    def test_a_path_that_is_not_there_is_refused_at_once(self, model: engine.EmbeddingModel) -> None:
        with pytest.raises(UsageError, match="/no/such/file"):
            engine.embed_file("/no/such/file", model)

    def test_files_and_folders_are_not_mixed_up(self, model: engine.EmbeddingModel, folder: Path) -> None:
        with pytest.raises(UsageError, match="use embed_directory"):
            engine.embed_file(folder, model)
        with pytest.raises(UsageError, match="use embed_file"):
            engine.embed_directory(folder / "red.png", model)

    def test_what_is_no_database_is_refused_in_one_line(
        self, model: engine.EmbeddingModel, folder: Path
    ) -> None:
        with pytest.raises(UsageError, match="adapter=3: give the URL of a database, or an Adapter"):
            engine.embed_directory(folder, model, adapter=3)  # type: ignore[call-overload]

    def test_sizes_that_do_not_fit_are_refused_at_once(
        self, model: engine.EmbeddingModel, folder: Path
    ) -> None:
        with pytest.raises(UsageError, match="chunk size 5000"):
            engine.embed_directory(folder, model, config=engine.TextEmbedConfig(chunk_size=5000))
        for number in (0, "many", 1.5):
            with pytest.raises(UsageError, match=f"^buffer_size={number!r}: give a whole number"):
                engine.TextEmbedConfig(buffer_size=number)  # type: ignore[arg-type]

    def test_what_is_of_another_type_is_refused_by_its_name(
        self, model: engine.EmbeddingModel, folder: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match=r"^path: is of type bytes; .*embed_items"):
            engine.embed_file(b"%PDF-1.7", model)  # type: ignore[call-overload]
        with pytest.raises(UsageError, match=r"^config: is of type dict; give a TextEmbedConfig"):
            engine.embed_directory(folder, model, config={"chunk_size": 64})  # type: ignore[call-overload]
        with pytest.raises(UsageError, match=r"^text_model: is of type int; give a model's name"):
            engine.EmbeddingModel(3)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"^workers='two': give a whole number"):
            engine.embed_directory(
                folder,
                model,
                adapter=f"lancedb://{tmp_path}/db",
                workers="two",  # type: ignore[call-overload]
            )

    @pytest.mark.parametrize("name", ["source", "1st", "a b", ""])
    def test_a_field_that_can_not_be_one_is_refused(self, name: str) -> None:
        with pytest.raises(UsageError, match="fields"):
            engine.TextEmbedConfig(fields={name: "x"})

    def test_models_that_are_not_here_are_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelNotFoundError, match="nobody/knows-it"):
            engine.EmbeddingModel.from_pretrained("nobody/knows-it")

    def test_embedanything_names_its_model_in_its_own_words(self) -> None:
        model = engine.EmbeddingModel.from_pretrained_hf(model_id="stand-in:16", revision="main")
        assert model.text.dimensions == 16
        with pytest.raises(UsageError, match="revision 'v2'"):
            engine.EmbeddingModel.from_pretrained_hf("stand-in:16", revision="v2")
        with pytest.raises(UsageError, match="HF_TOKEN"):
            engine.EmbeddingModel.from_pretrained_hf("stand-in:16", token="secret")

    def test_the_default_image_model_says_what_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path))
        model = engine.EmbeddingModel.from_pretrained("stand-in:16")
        with pytest.warns(engine.EmbedWarning, match="a real model with image_model=") as warned:
            assert model.image.name == "demo-clip"
        assert warned[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert model.image.name == "demo-clip"


class TestWorkers:
    def test_a_script_without_a_guard_runs_the_processes_once(self, folder: Path, tmp_path: Path) -> None:
        shutil.copy(ENCRYPTED, folder)
        (folder / "empty.txt").touch()
        script = tmp_path / "script.py"
        script.write_text(
            "import engine\n"
            f"open({str(tmp_path / 'calls')!r}, 'a').write('once;')\n"
            "model = engine.EmbeddingModel.from_pretrained('stand-in:16', 'stand-in:8')\n"
            "told = []\n"
            "summary = engine.embed_directory(\n"
            f"    {str(folder)!r}, model, adapter='lancedb://{tmp_path}/db', workers=2,\n"
            f"    run_dir={str(tmp_path / 'run')!r}, on_failure=told.append,\n"
            ")\n"
            "assert told == summary.failures and len(told) == 1, summary\n"
            "print(summary.files, summary.unchanged, summary.records, summary.skipped, __file__)\n"
        )
        told = []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, str(script)], capture_output=True, text=True, timeout=HANG_S, check=False
            )
            assert (done.returncode, done.stderr) == (0, "")
            told.append(done.stdout)
        assert told == [f"7 0 7 {{'empty': 1}} {script}\n", f"0 7 0 {{'empty': 1}} {script}\n"]
        assert (tmp_path / "calls").read_text() == "once;once;"
        adapter = adapters.connect(f"lancedb://{tmp_path}/db")
        assert adapter.count() == 7
        adapter.close()

    def test_options_reach_the_processes(self, folder: Path, tmp_path: Path) -> None:
        url = f"lancedb://{tmp_path}/db"
        program = (
            "import engine\n"
            "model = engine.EmbeddingModel.from_pretrained('stand-in:16', 'stand-in:8')\n"
            "config = engine.TextEmbedConfig(chunk_size=32, overlap=3, fields={'project': 'bees'})\n"
            f"summary = engine.embed_image_directory({str(folder)!r}, model, config, adapter={url!r},\n"
            f"    workers=1, run_dir={str(tmp_path / 'run')!r})\n"
            "assert (summary.records, summary.image) == (2, 2), summary\n"
            "assert summary.skipped == {'not-included': 5}, summary\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG_S, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        adapter = adapters.connect(url)
        schema = adapter.schema()
        assert schema is not None
        assert schema.fields == (("project", "string"),)
        assert schema.chunker.key.startswith("tokens=32,overlap=3,")
        adapter.close()

    def test_what_processes_can_not_share_is_refused(
        self, model: engine.EmbeddingModel, folder: Path, url: str, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="another process"):
            engine.embed_directory(folder, model, adapter=url, workers=2)
        with pytest.raises(UsageError, match="as a URL"):
            engine.embed_directory(folder, model, adapter=adapters.connect(url), workers=2)
        lance = f"lancedb://{tmp_path}/db"
        with pytest.raises(UsageError, match=r"^max_ram='lots': give bytes"):
            engine.embed_directory(folder, model, adapter=lance, workers=1, max_ram="lots")
        with pytest.raises(UsageError, match=r"^workers=0: give a whole number of at least 1"):
            engine.embed_directory(folder, model, adapter=lance, workers=0)
