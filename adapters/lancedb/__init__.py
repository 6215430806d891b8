"""LanceDB, embedded: a directory of column files, written by this process, with no server.

`lancedb:///abs/dir` or `lancedb://rel/dir`; the records are the table `chunks`.

- `table`: the open table, and what it was made with.
- `arrow`: records as Arrow columns.
- `vector_index`: when a vector index is built, of which kind, and how it is searched.
- `catalogue`: keeps the library from loading what a table in a folder doesn't need.
- `presence`: which ids the table holds, as far as a few bits each can tell.
- `staging`: several writers, each with a table of its own until `gather`.
- `adapter`: the contract of `adapters.base` on top of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from adapters.base import Adapter, AdapterOptions, Capabilities
from adapters.database import Database, Option
from adapters.lancedb import catalogue

#: Words of the option `index`: no index, and the kinds that `vector_index` builds.
INDEX_KINDS = ("exact", "ivf_rq", "ivf_sq", "ivf_flat")

#: The table's name, part of the documented layout, and what the adapter makes beside it.
TABLE = "chunks"
STAGING = "staging"
BESIDE_TABLE = (".writer", ".creation", STAGING)

#: What is in `staging`: a folder for each index, by its identity.
_STAGED = re.compile("[0-9a-f]{32}|none")

#: Bytes that the library reads ahead where its threads are bounded; its own default grows with the cores.
READ_AHEAD_BYTES = 16 << 20

#: Where in the directory the versions of the table are, by the format of Lance.
VERSIONS = "chunks.lance/_versions"


def _connect(url: str, options: AdapterOptions, own: Mapping[str, Any]) -> Adapter:
    """The library reads its environment when it is imported; variables that the user has set stay."""
    environment = {"LANCEDB_LOG": "error"}
    if options.threads is not None:
        # Left to itself it compacts with a task for each core.
        environment["LANCE_CPU_THREADS"] = str(options.threads)
        environment["LANCE_IO_THREADS"] = str(2 * options.threads)
        environment["LANCE_DEFAULT_IO_BUFFER_SIZE"] = str(READ_AHEAD_BYTES)
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    catalogue.defer()
    from adapters.lancedb.adapter import connect

    return connect(url, options, own)


def _files(url: str) -> tuple[str, ...]:
    """The directory; where it holds other things as well, only what the adapter makes in it."""
    directory = os.path.abspath(url.partition("://")[2])
    if os.path.isdir(directory) and not _holds_nothing_else(directory):
        ours = (name for name in BESIDE_TABLE if _is_ours(directory, name))
        return tuple(os.path.join(directory, name) for name in (f"{TABLE}.lance", *ours))
    return (directory,)


def _is_index(path: str, is_folder: bool) -> bool:
    """A table, or what lies beside the engine's own one; a directory of nothing else is one as a whole."""
    folder, name = os.path.split(path)
    if name in BESIDE_TABLE:
        return os.path.isdir(f"{folder}/{TABLE}.lance") and _is_ours(folder, name)
    if not is_folder:
        return False
    if name.endswith(".lance"):
        return os.path.isdir(f"{path}/_versions")
    return os.path.isdir(f"{path}/{TABLE}.lance") and _holds_nothing_else(path)


def _holds_nothing_else(directory: str) -> bool:
    try:
        names = os.listdir(directory)
    except OSError:
        return False
    return all(name.endswith(".lance") or _is_ours(directory, name) for name in names)


def _is_ours(directory: str, name: str) -> bool:
    """Whether the adapter makes this beside its table; users have folders `staging`, too."""
    if name != STAGING:
        return name in BESIDE_TABLE
    try:
        return all(_STAGED.fullmatch(each) for each in os.listdir(os.path.join(directory, name)))
    except OSError as error:
        return isinstance(error, FileNotFoundError)


def _left_as(url: str) -> str | None:
    """By the folder of the table's versions, in which each commit makes a file."""
    try:
        found = os.stat(os.path.join(url.partition("://")[2], VERSIONS))
    except OSError:
        return None
    return f"{found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"


DATABASE = Database(
    form="lancedb://DIRECTORY",
    about="LanceDB, embedded: a directory of column files, without a server",
    install="pip install lancedb pyarrow",
    packages=("lancedb",),
    capabilities=Capabilities(exact_search=True, single_writer=True),
    connect=_connect,
    left_as=_left_as,
    files=_files,
    is_index=_is_index,
    options=(
        Option(
            "index",
            "vector index, made when a run has written everything; exact compares all vectors (default: none,"
            " and from 384 MB of vectors of a kind on ivf_rq, or ivf_sq where ivf_rq doesn't fit the model)",
            INDEX_KINDS,
        ),
    ),
)
