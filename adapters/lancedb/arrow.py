"""Records as Arrow columns, for the stores that speak Arrow. Imported only with one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from adapters.schema import as_row, embedding_field, model_of
from engine.records import RECORD_FIELDS, IndexSchema, Record, Vector

#: Arrow types of the fields that are not strings; the embeddings' depend on the model.
TYPES = {
    "page": pa.int32(),
    "position": pa.int64(),
    "start": pa.int64(),
    "end": pa.int64(),
    "indexed_at": pa.timestamp("us", "UTC"),
    "mtime": pa.timestamp("us", "UTC"),
    "size": pa.int64(),
}


#: Arrow types of the user's own fields.
FIELD_TYPES = {
    "string": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "strings": pa.list_(pa.string()),
}

#: The columns that hold vectors.
VECTORS = ("text_embedding", "image_embedding")


def columns(schema: IndexSchema, id_metadata: Mapping[str, str]) -> Any:
    """An Arrow schema in the record's documented order; a model that isn't known has no column yet."""
    fields = []
    for name in RECORD_FIELDS:
        if name in VECTORS:
            kind = name.partition("_")[0]
            model = model_of(schema, kind)
            fields += [vector_column(kind, model.dimensions)] if model else []
        else:
            metadata = id_metadata if name == "id" else None
            fields.append(pa.field(name, TYPES.get(name, pa.string()), metadata=metadata))
    return pa.schema([*fields, *(pa.field(name, FIELD_TYPES[kind]) for name, kind in schema.fields)])


def vector_column(kind: str, dimensions: int) -> Any:
    """The column of one kind's vectors, null in the records of the other kind."""
    return pa.field(f"{kind}_embedding", pa.list_(pa.float32(), dimensions))


def table_of(records: list[Record], schema: Any) -> Any:
    """The records as an Arrow table of exactly that schema; vectors never become Python lists."""
    rows = [as_row(record, with_embeddings=False) for record in records]
    arrays = []
    for field in schema:
        if field.name in VECTORS:
            arrays.append(_vectors(records, field))
        else:
            arrays.append(pa.array([row.get(field.name) for row in rows], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _vectors(records: list[Record], field: Any) -> Any:
    mine = np.array([embedding_field(record.kind) == field.name for record in records])
    matrix = np.zeros((len(records), field.type.list_size), np.float32)
    if mine.any():
        matrix[mine] = [record.embedding for record, own in zip(records, mine, strict=True) if own]
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), type=field.type, mask=pa.array(~mine))


def conformed(table: Any, schema: Any) -> Any:
    """The table with exactly that schema's columns; one that it lacks is null."""
    columns = [
        table.column(field.name) if field.name in table.schema.names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def matrix_of(batch: Any, name: str) -> Vector:
    """A vector column as float32 [rows, dimensions]; the values of null rows are arbitrary."""
    column = batch.column(name)
    size = column.type.list_size
    # Unlike flatten(), `values` keeps the places of nulls; and it knows nothing of a slice's offset.
    values = column.values.to_numpy(zero_copy_only=False)[column.offset * size :][: len(column) * size]
    matrix: Vector = values.reshape(len(column), size)
    return matrix
