from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import adapters
import engine
from adapters import memory
from adapters.base import NO_FILTERS, AdapterOptions, Filters
from engine import search
from engine.api import searcher
from engine.api.searcher import KINDS, IndexSearch, fused
from engine.cli.terminal import harmless
from engine.errors import DatabaseUnavailableError, UsageError
from engine.models.load import load_caption
from engine.records import ChunkerIdentity, Hit, IndexSchema, Kind, ModelInfo
from tests.records import make_records

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "corpus"

#: Seconds after which a search counts as hung.
HANG_S = 120.0


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture
def index() -> Iterator[str]:
    """The URL of an index in this process."""
    yield "memory://search"
    memory.drop("search")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three texts and two pictures."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, text in {"bees": "Bees dance.", "moon": "The moon\nis\ta \x1b[31mrock.", "tea": "Tea."}.items():
        (folder / f"{name}.txt").write_text(text)
    Image.new("RGB", (40, 30), "red").save(folder / "red.png")
    Image.new("RGB", (40, 30), "blue").save(folder / "blue.png")
    return folder


def fill(folder: Path, url: str, extensions: list[str] | None = None) -> None:
    """Index a folder with stand-ins; the text of a chunk is what finds it."""
    model = engine.EmbeddingModel.from_pretrained("stand-in:16", "stand-in:8")
    engine.embed_directory(folder, model, extensions, adapter=url)


def command(*arguments: str, text: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "engine.search", *arguments],
        capture_output=True,
        text=text,
        timeout=HANG_S,
        check=False,
    )


def find(
    query: str,
    url: str,
    k: int = 10,
    kinds: Sequence[Kind] = KINDS,
    filters: Filters = NO_FILTERS,
    hybrid: bool = False,
) -> dict[Kind, list[Hit]]:
    """All hits of one search."""
    with closing(IndexSearch(url)) as index:
        return dict(index.each(query, k, kinds, filters, hybrid))


class TestFind:
    def test_the_text_asked_for_comes_first_and_pictures_come_with_it(self, folder: Path, index: str) -> None:
        fill(folder, index)
        hits = find("Bees dance.", index, k=2)
        assert [len(hits["text"]), len(hits["image"])] == [2, 2]
        assert hits["text"][0].source == str(folder / "bees.txt")
        assert hits["text"][0].score == pytest.approx(1)
        assert {hit.source for hit in hits["image"]} == {str(folder / "red.png"), str(folder / "blue.png")}

    def test_one_kind_may_be_asked_for_alone(self, folder: Path, index: str) -> None:
        fill(folder, index)
        assert list(find("bees", index, kinds=["image"])) == ["image"]

    def test_an_index_of_texts_loads_no_image_model(
        self, folder: Path, index: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(folder, index, ["txt"])
        schema = adapters.connect(index).schema()
        assert schema is not None
        adapters.connect(index).ensure_schema(  # as a run does that met a picture and could not read it
            IndexSchema(None, ModelInfo("no such model", "0" * 64, 8, True), schema.chunker)
        )
        monkeypatch.setattr(searcher, "load_caption", None)
        assert list(find("bees", index)) == ["text"]

    def test_an_index_of_pictures_loads_no_text_model(
        self, folder: Path, index: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(folder, index, ["png"])
        monkeypatch.setattr(searcher, "load_text", None)
        assert list(find("bees", index)) == ["image"]

    def test_an_empty_index_has_no_hits(self, index: str) -> None:
        schema = IndexSchema(
            ModelInfo("stand-in:16", "0" * 64, 16, True), None, ChunkerIdentity.from_key("any")
        )
        adapters.connect(index).ensure_schema(schema)
        assert find("bees", index) == {}

    def test_filters_leave_out_what_does_not_pass(self, folder: Path, index: str) -> None:
        fill(folder, index)
        hits = find("Bees dance.", index, filters=Filters(source_prefix=str(folder / "r")))
        assert [hit.source for hit in hits["image"]] == [str(folder / "red.png")]
        assert hits["text"] == []
        hits = find("Bees dance.", index, filters=Filters(media_type="text/plain"))
        assert hits["text"] and not hits["image"]

    def test_a_hybrid_search_is_refused_where_words_are_not_searched(self, folder: Path, index: str) -> None:
        fill(folder, index)
        with pytest.raises(UsageError, match="can't search by words"):
            find("bees", index, hybrid=True)

    @pytest.mark.parametrize("query", ["", " \n"])
    def test_an_empty_query_is_refused(self, index: str, query: str) -> None:
        with pytest.raises(UsageError, match="query is empty"):
            find(query, index)

    def test_fewer_than_one_hit_is_refused(self, index: str) -> None:
        with pytest.raises(UsageError, match="-k 0"):
            find("bees", index, k=0)

    def test_where_there_is_no_index_it_says_how_to_make_one(self, index: str) -> None:
        with pytest.raises(UsageError, match=r"no index there.*engine\.run"):
            find("bees", index)

    @pytest.mark.parametrize(
        ("digest", "dimensions", "named"),
        [("0" * 64, 16, "digest 000000000000"), ("", 17, "17 dimensions")],
    )
    def test_another_model_of_the_same_name_is_refused_with_both_described(
        self, index: str, digest: str, dimensions: int, named: str
    ) -> None:
        real = engine.EmbeddingModel.from_pretrained("stand-in:16").text
        made_with = ModelInfo("stand-in:16", digest or real.digest, dimensions, True)
        adapter = adapters.connect(index)
        adapter.ensure_schema(IndexSchema(made_with, None, ChunkerIdentity.from_key("any")))
        assert adapter.write(make_records(1, dim=dimensions), False) == [None]
        with pytest.raises(UsageError, match=named) as raised:
            find("bees", index)
        assert f"16 dimensions, digest {real.digest[:12]}" in str(raised.value)
        assert "index anew" in str(raised.value)

    @pytest.mark.parametrize("kind", ["text", "image"])
    def test_a_model_that_is_not_here_is_named(self, index: str, kind: str) -> None:
        gone = ModelInfo("nobody/knows-it", "0" * 64, 16, True)
        schema = IndexSchema(
            gone if kind == "text" else None,
            gone if kind == "image" else None,
            ChunkerIdentity.from_key("any"),
        )
        adapter = adapters.connect(index)
        adapter.ensure_schema(schema)
        assert adapter.write(make_records(1, kind=kind), False) == [None]  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=f"{kind} model nobody/knows-it, which is not to be had here"):
            find("bees", index)

    def test_texts_are_found_by_meaning_and_pictures_by_description(
        self, tmp_path: Path, index: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Real models, which other tests use too: what was exported and measured for one serves all.
        monkeypatch.delenv("VECTOR_ENGINE_CACHE")
        folder = tmp_path / "corpus"
        folder.mkdir()
        for name, text in {
            "engine.txt": "The car would not start, so the mechanic changed its spark plugs.",
            "cake.txt": "Beat the eggs with the sugar, fold in the flour, and put it into the oven.",
            "tides.txt": "Twice a day the sea rises and falls with the pull of the moon.",
        }.items():
            (folder / name).write_text(text)
        for name in (
            "large-red-circle-on-white",
            "large-green-triangle-on-pink",
            "large-yellow-star-on-black",
        ):
            shutil.copy(EXAMPLES / "pictures" / "jpg" / f"{name}.jpg", folder)
        engine.embed_directory(folder, engine.EmbeddingModel(image_model="demo-clip"), adapter=index)
        recipe = find("how do I bake a dessert?", index)
        assert recipe["text"][0].source.endswith("cake.txt")
        circle = find("a red circle", index, kinds=["image"])
        assert circle["image"][0].source.endswith("large-red-circle-on-white.jpg")


class TestFused:
    @staticmethod
    def ranking(ids: str) -> list[Hit]:
        return [Hit(one, f"/{one}", "text", None, 9.0 - place, one) for place, one in enumerate(ids)]

    def test_a_hit_of_both_rankings_beats_the_best_of_one(self) -> None:
        assert [hit.id for hit in fused([self.ranking("abc"), self.ranking("xbz")], 2)] == ["b", "a"]

    def test_scores_are_sums_of_reciprocal_ranks(self) -> None:
        first, second = fused([self.ranking("ab"), self.ranking("b")], 9)
        assert (first.id, second.id) == ("b", "a")
        assert first.score == pytest.approx(1 / 62 + 1 / 61)
        assert second.score == pytest.approx(1 / 61)

    def test_an_empty_ranking_changes_no_order(self) -> None:
        assert [hit.id for hit in fused([[], self.ranking("cab")], 9)] == ["c", "a", "b"]
        assert fused([[], []], 3) == []


class TestSnippet:
    LONG = (
        "Nothing here of note. " * 40 + "At last a red fox crossed the road. " + "And more of nothing. " * 40
    )

    def test_a_short_text_is_shown_whole_on_one_line(self) -> None:
        assert search.snippet(" one\n\n two\tthree ", "one") == "one two three"

    def test_it_surrounds_the_words_of_the_query(self) -> None:
        shown = search.snippet(self.LONG, "the FOXES and the fox")
        assert "red fox crossed the road" in shown
        assert shown.startswith("… ")
        assert shown.endswith(" …")
        assert len(shown) <= search.SNIPPET_CHARACTERS + 4

    def test_many_words_of_the_query_beat_one(self) -> None:
        text = "A fox. " + "Nothing. " * 60 + "A fox on a road. " + "Nothing. " * 60
        assert "fox on a road" in search.snippet(text, "road fox")

    def test_a_text_without_any_word_of_the_query_is_shown_from_its_start(self) -> None:
        assert search.snippet(self.LONG, "quantum").startswith("Nothing here")

    def test_the_end_of_a_text_is_shown_in_full_length(self) -> None:
        shown = search.snippet("word " * 200 + "fox", "fox")
        assert shown.endswith("fox")
        assert len(shown) > search.SNIPPET_CHARACTERS // 2

    def test_scripts_without_spaces_are_searched_too(self) -> None:
        assert "東京タワー" in search.snippet("あ" * 900 + "東京タワー" + "い" * 900, "東京タワー")

    def test_words_that_are_patterns_are_taken_as_they_are(self) -> None:
        assert search.snippet("a" * 400, "(.*[") == "a" * search.SNIPPET_CHARACTERS + " …"

    @pytest.mark.parametrize("character", ["\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\ud800", "\x7f"])
    def test_what_acts_on_a_terminal_becomes_an_escape(self, character: str) -> None:
        shown = harmless(f"a{character}b")
        assert shown == "a" + character.encode("unicode_escape").decode() + "b"
        assert shown.isprintable()

    def test_letters_and_joined_emoji_stay(self) -> None:
        assert harmless("naïve 東京 👩\u200d🚀") == "naïve 東京 👩\u200d🚀"


class TestLines:
    def test_a_text_has_rank_score_source_page_and_snippet(self) -> None:
        hit = Hit("id", "/a/b.pdf", "text", 7, 0.51249, "It says so.")
        lines = list(search.as_lines("says", "text", [hit]))
        assert lines == ["texts", "  1  0.512  /a/b.pdf (page 7)", "     It says so."]

    def test_a_picture_has_a_line_of_its_own(self) -> None:
        hit = Hit("id", "/a/b\nc.png", "image", None, 0.25, None)
        assert list(search.as_lines("x", "image", [hit])) == ["pictures", "  1  0.250  /a/b\\nc.png"]

    def test_hits_of_one_source_stand_together_below_the_best(self) -> None:
        hits = [
            Hit("1", "/a.pdf", "text", 7, 0.9, "One."),
            Hit("2", "/b.txt", "text", None, 0.8, "Two."),
            Hit("3", "/a.pdf", "text", 9, 0.7, "Three."),
            Hit("4", "/b.txt", "text", None, 0.6, "Four."),
        ]
        assert list(search.as_lines("x", "text", hits)) == [
            "texts",
            "  1  0.900  /a.pdf (page 7)",
            "     One.",
            "  3  0.700    and (page 9)",
            "     Three.",
            "  2  0.800  /b.txt",
            "     Two.",
            "  4  0.600    and another passage",
            "     Four.",
        ]
        ungrouped = list(search.as_lines("x", "text", hits, group=False))
        assert [line.split()[2] for line in ungrouped[1::2]] == ["/a.pdf", "/b.txt", "/a.pdf", "/b.txt"]

    def test_a_row_of_a_file_is_named(self) -> None:
        hit = Hit("id", "/a.jsonl", "text", None, 0.5, "Said.", "row 17")
        assert list(search.as_lines("x", "text", [hit]))[1] == "  1  0.500  /a.jsonl (row 17)"

    def test_json_has_the_documented_names(self) -> None:
        text = Hit("1", "/a", "text", None, 0.5, "naïve\n", "row 1", "Bees", "Hive > Queen")
        image = Hit("2", "/b", "image", None, 0.25, None)
        found = json.loads(search.as_json("q", {"text": [text], "image": [image]}))
        assert found == {
            "query": "q",
            "text": [
                {"id": "1", "source": "/a", "page": None, "score": 0.5, "text": "naïve\n"}
                | {"document": "row 1", "title": "Bees", "headings": "Hive > Queen"}
            ],
            "image": [{"id": "2", "source": "/b", "score": 0.25, "document": None, "title": None}],
        }


class TestCommand:
    @pytest.fixture
    def url(self, folder: Path, tmp_path: Path) -> str:
        """A LanceDB of the folder."""
        url = f"lancedb://{tmp_path}/db"
        fill(folder, url)
        return url

    def test_both_kinds_come_from_one_command(self, url: str, folder: Path) -> None:
        done = command("Bees dance.", "--adapter", url, "-k", "1", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        found = json.loads(done.stdout)
        assert [hit["source"] for hit in found["text"]] == [str(folder / "bees.txt")]
        assert found["text"][0]["text"] == "Bees dance."
        assert found["text"][0]["page"] is None
        assert len(found["image"]) == 1

    def test_texts_are_printed_before_the_image_model_is_loaded(
        self, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        printed: list[str] = []

        def late(*options: Any) -> Any:
            printed.append(capsys.readouterr().out)
            return load_caption(*options)

        monkeypatch.setattr(searcher, "load_caption", late)
        assert search.main(["bees", "--adapter", url]) == 0
        assert printed[0].startswith("texts\n") and "pictures" not in printed[0]
        assert capsys.readouterr().out.startswith("\npictures\n")

    def test_a_relative_prefix_means_a_folder_here(
        self, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(folder.parent)
        assert search.main(["bees", "--adapter", url, "--json", "--source-prefix", "corpus/b"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {hit["source"] for kind in ("text", "image") for hit in found[kind]} == {
            str(folder / "bees.txt"),
            str(folder / "blue.png"),
        }

    def test_without_a_hit_it_says_what_there_is(
        self, url: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search.main(["bees", "--adapter", url, "--media-type", "application/pdf"]) == 0
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == (
            "",
            f"engine.search: {url}: no hits; the index holds 5 records: 3 text/plain, 2 image/png;"
            f" their sources begin with {folder}/\n",
        )

    def test_texts_can_do_nothing_to_the_terminal(self, url: str) -> None:
        done = command("moon", "--adapter", url, "--kind", "text")
        assert done.returncode == 0
        assert "     The moon is a \\x1b[31mrock.\n" in done.stdout
        assert "\x1b" not in done.stdout

    def test_a_reader_that_stops_reading_is_no_error(self, url: str) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "engine.search", "moon", "--adapter", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(HANG_S) == 0

    def test_an_output_that_is_only_ascii_is_written_with_escapes(self, url: str, folder: Path) -> None:
        (folder / "tea.txt").write_text("Tea, 茶.")
        fill(folder, url)
        done = subprocess.run(
            [sys.executable, "-m", "engine.search", "Tea, 茶.", "--adapter", url, "-k1"],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            timeout=HANG_S,
            check=False,
        )
        assert done.returncode == 0
        assert b"Tea, \\u8336." in done.stdout

    def test_a_query_that_is_not_utf_8_is_searched_for_all_the_same(self, url: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "engine.search", b"b\xffes", "--adapter", url, "--json"],
            capture_output=True,
            timeout=HANG_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert json.loads(done.stdout)["query"] == "b\ufffdes"

    def test_a_stand_in_is_searched_without_torch(self, url: str) -> None:
        program = (
            "import sys; from engine import search; code = search.main(sys.argv[1:]);"
            "sys.exit(code or 'torch' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "moon", "--adapter", url], timeout=HANG_S, check=False
        )
        assert done.returncode == 0

    def test_an_empty_index_says_so_and_is_no_error(
        self, index: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        adapters.connect(index).ensure_schema(IndexSchema(None, None, ChunkerIdentity.from_key("any")))
        assert search.main(["bees", "--adapter", index]) == 0
        printed = capsys.readouterr()
        told = f"engine.search: {index}: no hits; the index is empty\n"
        assert (printed.out, printed.err) == ("", told)
        assert search.main(["bees", "--adapter", index, "--kind", "image", "--json"]) == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out) == {"query": "bees", "text": [], "image": []}
        assert printed.err == f"engine.search: {index}: no hits; it holds no pictures: the index is empty\n"

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ([], "QUERY"),
            ([" "], "the query is empty"),
            (["a", "b"], "b"),
            (["a", "-k", "0"], "-k: '0' is not a whole number of at least 1"),
            (["a", "-k", "some"], "'some'"),
            (["a", "--kind", "sound"], "'sound'"),
            (["a", "--device", "tpu"], "'tpu'"),
            (["a", "--adapter", "oracle://x"], "lancedb://"),
            (["a", "--adapter", "lancedb:///no/such/place"], "no index there"),
            (["a", "--adapter", "elasticsearch://127.0.0.1:9/index"], "no answer"),
        ],
    )
    def test_what_can_not_be_done_is_one_line_and_exit_code_2(
        self, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search.main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert told in printed.err
        assert printed.err.startswith("engine.search: ")
        assert printed.err.count("\n") == 1

    def test_an_exact_search_is_asked_for_and_refused_where_there_is_none(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked: list[bool] = []

        def connect(url: str, options: AdapterOptions) -> None:
            asked.append(options.exact)
            raise DatabaseUnavailableError(url)

        with monkeypatch.context() as patch:
            patch.setattr(adapters, "connect", connect)
            search.main(["bees", "--adapter", "lancedb://x"])
            search.main(["bees", "--adapter", "lancedb://x", "--exact"])
        assert asked == [False, True]
        capsys.readouterr()
        assert search.main(["bees", "--adapter", "elasticsearch://127.0.0.1:1/x", "--exact"]) == 2
        assert "--exact: this database can't compare all vectors" in capsys.readouterr().err

    def test_a_database_that_goes_away_is_exit_code_2(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def down(url: str, options: object) -> None:
            raise DatabaseUnavailableError(f"{url}: no\nanswer")

        monkeypatch.setattr(adapters, "connect", down)
        assert search.main(["bees", "--adapter", "memory://x"]) == 2
        assert capsys.readouterr().err == "engine.search: memory://x: no answer\n"
