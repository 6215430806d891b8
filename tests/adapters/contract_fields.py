"""What every adapter promises of a record's fields: any text, any place, and the user's own typed values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapters.base import Adapter
from engine.errors import SchemaMismatchError
from engine.records import FieldType, FieldValue, field_type
from tests.adapters.harness import IndexFixtures, stored, write
from tests.records import MTIME, make_record, make_records, make_schema, make_vectors

#: Bytes of the longest text that the engine makes.
LONGEST_TEXT = 32 * 1024

#: A field of each type.
FIELDS: list[tuple[str, FieldType]] = [
    ("name", "string"),
    ("year", "integer"),
    ("score", "float"),
    ("open", "boolean"),
    ("seen", "timestamp"),
    ("tags", "strings"),
]

#: What the fields of a record may hold.
VALUES: list[dict[str, FieldValue]] = [
    {"name": "blue's", "year": 1901, "score": 0.1, "open": True, "seen": MTIME, "tags": ("a", "b c", "")},
    {"name": "", "year": -(2**63), "score": 1.0, "open": False, "tags": ()},
    {"name": "x" * 40_000, "year": 2**63 - 1, "score": -1e300, "tags": ("one",)},
    {"year": 0, "score": 5e-324, "seen": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)},
]


class FieldsContract(IndexFixtures):
    """What is written comes back, and what doesn't fit is refused record by record."""

    def test_a_record_says_which_document_it_is_from_and_what_stands_above_it(self, index: Adapter) -> None:
        plain, told = make_records(2)
        told = replace(told, document="row 7/ü", title="Bees", headings='Hive > Queen\'s "cell"')
        picture = replace(make_records(1, "image")[0], document="a.png", title="A hive")
        write(index, [plain, told, picture])
        rows = stored(index)
        for record in (plain, told, picture):
            row = rows[record.id]
            assert (row["document"], row["title"], row["headings"]) == (
                *(record.document, record.title, record.headings),
            )
        hits = {hit.id: hit for hit in index.search("text", told.embedding, 2)}
        assert (hits[told.id].document, hits[told.id].title) == (told.document, told.title)
        assert (hits[told.id].headings, hits[plain.id].headings) == (told.headings, None)

    def test_fields_of_every_type_come_back_as_they_were_written(self, adapter: Adapter) -> None:
        schema = make_schema(fields=tuple(FIELDS))
        adapter.ensure_schema(schema)
        assert adapter.schema() == schema
        vectors = make_vectors(len(VALUES) + 1)
        records = [
            replace(make_record(f"{n}", n, vectors[n]), fields=values) for n, values in enumerate(VALUES)
        ]
        bare = make_record("bare", 50, vectors[-1])
        write(adapter, [*records, bare])
        rows = stored(adapter)
        for record in (*records, bare):
            for name, kind in FIELDS:
                value = rows[record.id][name]
                assert value == record.fields.get(name)
                assert value is None or field_type(value) == kind  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"year": "1901"}, "its field year is '1901', the index holds integer there"),
            ({"year": True}, "its field year is True, the index holds integer there"),
            ({"year": 2**63}, "its field year needs more than 64 bits"),
            ({"score": float("nan")}, "its field score is not finite"),
            ({"score": 1}, "its field score is 1, the index holds float there"),
            ({"seen": datetime(2024, 1, 1)}, "its field seen has no time zone"),
            ({"tags": "one"}, "its field tags is 'one', the index holds strings there"),
            ({"tags": ("a", "\ud83d")}, "surrogate"),
            ({"colour": "red"}, "the index has no field colour"),
        ],
    )
    def test_a_value_that_does_not_fit_its_field_is_refused_alone(
        self, adapter: Adapter, fields: dict[str, FieldValue], told: str
    ) -> None:
        adapter.ensure_schema(make_schema(fields=tuple(FIELDS)))
        first, second = make_vectors(2)
        outcomes = adapter.write(
            [replace(make_record("bad", 0, first), fields=fields), make_record("good", 1, second)], False
        )
        assert told in str(outcomes[0])
        assert outcomes[1] is None
        assert adapter.count() == 1

    def test_a_field_of_another_type_is_another_schema(self, adapter: Adapter) -> None:
        adapter.ensure_schema(make_schema(fields=(("year", "integer"),)))
        with pytest.raises(SchemaMismatchError, match=r"--field names year \(integer\).*year;"):
            adapter.ensure_schema(make_schema(fields=("year",)))

    def test_constant_fields_are_stored_beside_the_others(self, adapter: Adapter) -> None:
        adapter.ensure_schema(make_schema(fields=("tenant", "lang")))
        record = make_record("a", 0, make_vectors(1)[0], tenant="blue's", lang="de")
        write(adapter, [record])
        row = stored(adapter)[record.id]
        assert (row["tenant"], row["lang"]) == ("blue's", "de")
        schema = adapter.schema()
        assert schema is not None
        assert schema.fields == (("tenant", "string"), ("lang", "string"))

    @pytest.mark.parametrize(
        "text",
        [
            "line one\nline two\r\n\ttabbed\x0b\x00 and a NUL",
            "100 % of 'quotes', \"double\", back\\slash; {} %s $1 DROP TABLE",
            "日本語のテキスト، نص عربي، e\u0301 \U0001f469\u200d\U0001f469\u200d\U0001f467 \u2028\ufeff",
            "x" * LONGEST_TEXT,
            "é\n" * (LONGEST_TEXT // 3),
            " ",
        ],
        ids=["newlines", "quotes", "scripts", "long word", "long text", "space"],
    )
    def test_any_text_survives(self, index: Adapter, text: str) -> None:
        record = make_record(text, 0, make_vectors(1)[0], source="/corpus/a %25 ' \" ü\n文.txt")
        write(index, [record], maybe_present=True)
        row = stored(index)[record.id]
        assert row["text"] == text
        assert row["source"] == record.source
