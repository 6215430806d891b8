"""What every adapter promises of searches, and of what it declares to be able to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import adapters
from adapters.base import Adapter, AdapterOptions, Filters
from adapters.database import Database
from engine.errors import UsageError
from tests.adapters.harness import OPTIONS, IndexFixtures, adapters_closed, stored, write
from tests.records import make_record, make_records, make_schema, make_vectors


def need(capability: bool) -> None:
    """Skip what the database declares not to be able to."""
    if not capability:
        pytest.skip("not declared")


class SearchContract(IndexFixtures):
    """Each capability that is declared is proven, each that is not is refused."""

    def test_an_index_can_what_its_database_declares(self, index: Adapter, database: Database) -> None:
        assert index.capabilities == database.capabilities

    def test_a_wrong_option_is_refused_before_anything_is_opened(self, url: str, database: Database) -> None:
        told = f"unknown option 'no_such'; .*{', '.join(one.name for one in database.options)}"
        with pytest.raises(UsageError, match=told):
            adapters.connect(f"{url}?no_such=1")
        for option in database.options:
            if option.accepts is not str:
                with pytest.raises(UsageError, match=f"option {option.name}='none such' is not accepted"):
                    adapters.connect(f"{url}?{option.name}=none%20such")

    def test_every_word_of_an_option_is_accepted_by_connect(self, url: str, database: Database) -> None:
        for option in database.options:
            words = option.accepts if isinstance(option.accepts, tuple) else ()
            for word in words or (("true", "false") if option.accepts is bool else ()):
                with adapters_closed(f"{url}?{option.name}={word}") as adapter:
                    assert adapter.identity() is None

    def test_words_find_texts_where_the_database_declares_it(self, adapter: Adapter) -> None:
        if not adapter.capabilities.words:
            with pytest.raises(UsageError, match="can't search by words"):
                adapter.search_words("word", 1)
            return
        assert adapter.search_words("fox", 5) == []
        adapter.ensure_schema(make_schema())
        texts = ["The red fox", "A fox AND a hound: red (maybe)", "Nothing of the sort", "fox"]
        vectors = make_vectors(4)
        records = [make_record(text, place, vectors[place]) for place, text in enumerate(texts)]
        records[3] = replace(records[3], source="/elsewhere/file", media_type="text/html")
        write(adapter, [*records, *make_records(3, "image")])
        hits = adapter.search_words("red fox", 10)
        assert {hit.text for hit in hits} == {texts[0], texts[1], texts[3]}
        assert hits[0].text == texts[0]
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert len(adapter.search_words("red fox", 2)) == 2
        assert [hit.text for hit in adapter.search_words('"fox" +(', 9, Filters("/elsewhere"))] == ["fox"]
        assert [hit.text for hit in adapter.search_words("fox", 9, Filters(None, "text/html"))] == ["fox"]
        assert adapter.search_words("?!", 9) == []

    def test_all_vectors_are_compared_where_the_database_declares_it(
        self, index: Adapter, url: str, database: Database
    ) -> None:
        if not database.capabilities.exact_search:
            with pytest.raises(UsageError, match="--exact: this database can't compare all vectors"):
                adapters.connect(url, AdapterOptions(exact=True))
            return
        records = make_records(300)
        write(index, records)
        index.publish()
        query = make_vectors(1, seed=99)[0]
        nearest = sorted(records, key=lambda record: -float(record.embedding @ query))[:10]
        with adapters_closed(url, AdapterOptions(exact=True)) as exact:
            assert [hit.id for hit in exact.search("text", query, 10)] == [record.id for record in nearest]

    def test_vectors_come_back_as_the_database_declares_it(self, index: Adapter) -> None:
        record = make_records(1)[0]
        write(index, [record])
        if index.capabilities.vectors == "none":
            with pytest.raises(UsageError, match="vectors"):
                stored(index)
            return
        vector = np.asarray(stored(index)[record.id]["text_embedding"])
        assert vector.dtype == np.float32
        tolerance = 0.0 if index.capabilities.vectors == "exact" else 1e-6
        assert np.abs(vector - record.embedding).max() <= tolerance

    def test_without_native_upsert_there_is_a_word_for_every_change(self, index: Adapter) -> None:
        records = make_records(5)
        before = index.state()
        write(index, records)
        if index.capabilities.native_upsert:
            write(index, records, maybe_present=False)
            assert index.count() == 5
        else:
            after = index.state()
            assert before is not None
            assert after not in (None, before)
            index.delete([records[0].id])
            assert index.state() not in (None, before, after)

    def test_one_process_writes_at_a_time_where_the_database_declares_it(
        self, index: Adapter, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.be_impatient(monkeypatch)
        index.check_writer()
        index.prepare()
        write(index, make_records(3))
        with adapters_closed(url) as other:
            if index.capabilities.single_writer:
                for refused in (other.check_writer, other.prepare):
                    with pytest.raises(UsageError, match="another process writes"):
                        refused()
            else:
                other.check_writer()
                other.prepare()
                write(other, make_records(3, seed=1))
                write(index, make_records(3, seed=2))
                assert index.count() == 9

    def be_impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let a second writer give up soon."""

    def test_tasks_write_at_once_and_are_gathered(self, index: Adapter, url: str) -> None:
        for number in range(2):
            with adapters_closed(url, replace(OPTIONS, task=f"{number}-of-2")) as task:
                assert not task.capabilities.single_writer
                task.ensure_schema(make_schema())
                task.prepare()
                write(task, make_records(4, seed=number))
        index.gather()
        index.publish()
        assert len(stored(index)) == 8

    def test_a_generation_takes_its_predecessor_s_place_when_it_is_published(
        self, index: Adapter, url: str
    ) -> None:
        index.prepare()
        write(index, make_records(5))
        index.publish()
        if not index.capabilities.generations:
            assert not index.begin_generation(make_schema())
            assert index.count() == 5
            return
        before = index.identity()
        with adapters_closed(url) as reader:
            assert index.begin_generation(make_schema())
            index.prepare()
            write(index, make_records(7, seed=1))
            assert index.identity() != before
            assert (reader.identity(), reader.count()) == (before, 5)
            index.publish(7)
            assert (reader.identity(), reader.count()) == (index.identity(), 7)

    def test_filters_are_refused_where_the_database_declares_none(self, index: Adapter) -> None:
        if not index.capabilities.filters:
            with pytest.raises(UsageError, match="filter"):
                index.search("text", make_vectors(1)[0], 1, Filters("/x"))

    def test_the_nearest_come_first_with_their_cosine(self, index: Adapter) -> None:
        records = make_records(200)
        write(index, records)
        query = make_vectors(1, seed=99)[0]
        cosines = {record.id: float(record.embedding @ query) for record in records}
        hits = index.search("text", query, 5)
        assert [hit.id for hit in hits] == sorted(cosines, key=lambda one: -cosines[one])[:5]
        assert [hit.score for hit in hits] == pytest.approx([cosines[hit.id] for hit in hits], abs=1e-5)
        first = next(record for record in records if record.id == hits[0].id)
        assert (hits[0].source, hits[0].page, hits[0].text) == (first.source, first.page, first.text)

    def test_the_length_of_a_query_changes_no_score(self, index: Adapter) -> None:
        records = make_records(5)
        write(index, records)
        query = make_vectors(1, seed=9)[0]
        plain, long = index.search("text", query, 3), index.search("text", (3 * query).astype(np.float32), 3)
        assert [hit.id for hit in plain] == [hit.id for hit in long]
        assert [hit.score for hit in long] == pytest.approx([hit.score for hit in plain], abs=1e-5)

    def test_each_kind_is_searched_alone(self, index: Adapter) -> None:
        texts, pictures = make_records(5), make_records(4, "image")  # the same vectors
        write(index, [*texts, *pictures])
        query = texts[0].embedding
        found = index.search("text", query, 20)
        assert {hit.id for hit in found} == {record.id for record in texts}
        assert {hit.kind for hit in found} == {"text"}
        seen = index.search("image", query, 20)
        assert {hit.id for hit in seen} == {record.id for record in pictures}
        assert seen[0].text is None

    def test_a_filter_by_source_lets_only_that_prefix_pass(self, index: Adapter) -> None:
        need(index.capabilities.filters)
        vectors = make_vectors(60)
        names = ["/data/it's a_b%/x.txt", "/data/it's a_b%", "/data/It's a_b%/x.txt", "/data/it's aXbb/x.txt"]
        records = [make_record(f"chunk {i}", i, v, source=names[i % 4]) for i, v in enumerate(vectors)]
        write(index, records)
        hits = index.search("text", vectors[0], 60, Filters(source_prefix="/data/it's a_b%"))
        assert {hit.source for hit in hits} == set(names[:2])
        assert len(hits) == 30
        assert index.search("text", vectors[0], 5, Filters(source_prefix="/nowhere")) == []

    def test_a_filter_by_media_type_takes_the_whole_of_it(self, index: Adapter) -> None:
        need(index.capabilities.filters)
        texts = make_records(4)
        pages = [replace(record, media_type="text/html") for record in make_records(3, seed=1)]
        write(index, [*texts, *pages, *make_records(2, "image")])
        query = texts[0].embedding
        found = index.search("text", query, 9, Filters(media_type="text/html"))
        assert {hit.id for hit in found} == {record.id for record in pages}
        assert index.search("text", query, 9, Filters(media_type="text")) == []
        assert len(index.search("image", query, 9, Filters(media_type="image/png"))) == 2
        assert index.search("image", query, 9, Filters(media_type="text/plain")) == []

    def test_the_nearest_that_pass_are_found_however_far_they_are(self, index: Adapter) -> None:
        need(index.capabilities.filters)
        query = make_vectors(1, seed=99)[0]
        records = sorted(make_records(500), key=lambda record: float(record.embedding @ query))
        far = {record.id for record in records[:3]}
        records = [replace(r, source="/far/away" if r.id in far else "/near/by") for r in records]
        write(index, records)
        both = Filters(source_prefix="/far/", media_type="text/plain")
        assert [hit.id for hit in index.search("text", query, 3, both)] == [r.id for r in records[2::-1]]
        assert len(index.search("text", query, 10, both)) == 3
