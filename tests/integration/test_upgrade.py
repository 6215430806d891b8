"""A run directory of an older engine goes on: what was indexed is unchanged, what changed is made anew."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.integration.runs import Corpus
from tests.integration.test_run import PROSE

#: The tables of version 3 as those of version 2, which tests/runtime/ledger/ledger_v2.sql has as they were
#: made.
AS_VERSION_2 = """
ALTER TABLE items DROP COLUMN version;
ALTER TABLE items RENAME COLUMN revision TO version;
ALTER TABLE items RENAME COLUMN uri TO source;
ALTER TABLE items RENAME COLUMN location TO path;
ALTER TABLE items RENAME TO files;
DROP INDEX items_seen; CREATE INDEX files_seen ON files (seen);
DROP INDEX items_state; CREATE INDEX files_state ON files (state);
ALTER TABLE segments RENAME COLUMN item TO file;
ALTER TABLE segments RENAME COLUMN revision TO version;
ALTER TABLE failures RENAME COLUMN item TO file;
ALTER TABLE failures DROP COLUMN document;
ALTER TABLE replaced RENAME COLUMN item TO file;
ALTER TABLE replaced RENAME COLUMN revision TO version;
ALTER TABLE unsettled RENAME COLUMN item TO file;
UPDATE meta SET value = '2' WHERE key = 'version';
"""


def test_a_run_over_a_ledger_of_version_2_finds_unchanged_what_is(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for name in ("a.txt", "b.txt", "folder/c.txt"):
        corpus.write(name, f"{name}: {PROSE}")
    corpus.run()
    before = corpus.records()
    with closing(sqlite3.connect(corpus.run_dir / "ledger.sqlite")) as ledger:
        ledger.executescript(AS_VERSION_2)
    again = corpus.run()
    assert (again.code, again.files) == (0, {"discovered": 3, "unchanged": 3})
    assert corpus.records().keys() == before.keys()
    corpus.write("b.txt", f"changed: {PROSE}")
    assert corpus.run().files == {"discovered": 3, "indexed": 1, "unchanged": 2}
    assert len(corpus.records()) == len(before)
