"""How many pages a second come out of PDF manuals in one process, and do only tables take pdfplumber's time?

The same pages by the engine's parser and by pdfplumber (`extract_text` and `extract_tables`, each page
closed), one after another. Then documents of which a share of the pages has a ruled table: the time should be
that of the plain pages and pdfplumber's for those with tables. Last, on the manuals' pages, whether the cheap
look finds the tables that pdfplumber alone would have given. CPU seconds of one process.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pdfplumber
import pypdfium2

from benchmarks.command import BenchError
from benchmarks.speed import debian
from benchmarks.speed.bench import Outcome, interleaved
from engine import parsers
from engine.parsers.pdf.tables import may_have_table, read_tables
from tests.parsers.pdf_writer import Page, pdf_stream

#: How many times as many pages a second as pdfplumber, without tables; how far from the model's time with.
GOAL, SLACK = 20.0, 0.10

#: Rows and columns of a made table.
ROWS, COLUMNS = 24, 4


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--packages", type=Path, metavar="DIR", help="unpacked Debian packages (default: in --work)")
    add("--pages", type=int, default=100, metavar="N", help="without tables (default 100)")
    add("--judged", type=int, default=800, metavar="N", help="searched for tables (default 800)")
    add("--shares", type=float, nargs="+", default=[0.02, 0.1, 0.3], help="of table pages (0.02 0.1 0.3)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    outcome = Outcome()
    folders = debian.unpacked(args.packages or work / "packages", debian.MANUALS)
    manuals = debian.files(folders, ".pdf")
    if not manuals:
        raise BenchError(f"no PDF below {', '.join(map(str, folders))}")
    chance = random.Random(3)
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        made = Path(temporary)
        judged = _drawn(manuals, args.judged, chance, made / "judged.pdf")
        with_tables = _judge(outcome, judged)
        plain = [i for i in range(_count(judged)) if i not in with_tables]
        plain = sorted(chance.sample(plain, min(args.pages, len(plain))))
        paths = {"plain": _of(judged, plain, made / "plain.pdf"), "tables": _tables(made / "tables.pdf", 40)}
        for share in (0.0, *args.shares):
            paths[f"{share:.0%}"] = _mixed(paths["plain"], paths["tables"], share, made / f"{share}.pdf")
        _race(outcome, paths, args)
    return outcome


def _race(outcome: Outcome, paths: dict[str, Path], args: argparse.Namespace) -> None:
    works = {name: (lambda p=path: _ours(p)) for name, path in paths.items()}
    theirs = {f"{name} by pdfplumber": (lambda p=paths[name]: _theirs(p)) for name in ("plain", "tables")}
    timed = interleaved({**works, **theirs}, args.rounds)
    pages = {name: _count(path) for name, path in paths.items()}
    seconds = {name: one.median / pages[name.split()[0]] for name, one in timed.items()}
    for name, each in seconds.items():
        outcome.rows.append({"pages": name, "pages/s": f"{1 / each:,.1f}", "ms a page": f"{1e3 * each:.2f}"})
    outcome.goal(
        "pages/s ÷ pdfplumber's, without tables", seconds["plain by pdfplumber"] / seconds["plain"], GOAL
    )
    for name in paths:
        if name not in ("plain", "tables", "0%"):
            share = float(name[:-1]) / 100
            # Not the plain document: pages that were put together one by one share no fonts.
            model = seconds["0%"] + share * seconds["tables by pdfplumber"]
            what = f"pages/s ÷ 1/(t_fast + f·t_plumber), f = {name}"
            outcome.goal(what, model / seconds[name], 1 - SLACK)


def _judge(outcome: Outcome, path: Path) -> set[int]:
    """Says how the cheap look does; the pages with tables, as pdfplumber alone has them."""
    found, passed, tables, missed = set[int](), set[int](), 0, 0
    with closing(pypdfium2.PdfDocument(path)) as document:
        count = len(document)
        for index in range(count):
            with closing(document[index]) as page:
                if may_have_table(page):
                    passed.add(index)
            if made := len(read_tables(document, index)):
                found.add(index)
                tables += made
                missed += 0 if index in passed else made
    # What the look lets pass is read by pdfplumber itself: nothing is found that it doesn't find.
    recall = 1 - missed / tables if tables else 1.0
    outcome.said.append(
        f"tables on {count} pages of manuals: pdfplumber alone finds {tables} on {len(found)} pages; the"
        f" engine {tables - missed} of them and no others: F1 {2 * recall / (1 + recall):.3f}; pdfplumber is"
        f" asked for {len(passed)} pages"
    )
    return found | passed


def _ours(path: Path) -> int:
    file = parsers.LocalFile(str(path))
    return sum(1 for _ in parsers.parse(file, "application/pdf", parsers.ParseOptions()))


def _theirs(path: Path) -> None:
    with pdfplumber.open(path) as document:
        for page in document.pages:
            page.extract_text()
            page.extract_tables()
            page.close()


def _count(path: Path) -> int:
    with closing(pypdfium2.PdfDocument(path)) as document:
        return len(document)


def _drawn(paths: Sequence[Path], count: int, chance: random.Random, made: Path) -> Path:
    """A document of about so many pages, as many from each of the manuals where it has them."""
    with closing(pypdfium2.PdfDocument.new()) as document:
        for path in paths:
            with closing(pypdfium2.PdfDocument(path)) as source:
                most = min(len(source), -(-count // len(paths)))
                document.import_pages(source, sorted(chance.sample(range(len(source)), most)))
        document.save(made)
    return made


def _of(path: Path, indices: Sequence[int], made: Path) -> Path:
    with closing(pypdfium2.PdfDocument.new()) as document, closing(pypdfium2.PdfDocument(path)) as source:
        document.import_pages(source, list(indices))
        document.save(made)
    return made


def _tables(path: Path, count: int) -> Path:
    cells = [[f"{column}{row}" for column in ("river ", "km ", "mouth ", "since ")] for row in range(ROWS)]
    with open(path, "wb") as file:
        file.writelines(pdf_stream((Page().table(72, 700, cells) for _ in range(count)), count))
    return path


def _mixed(plain: Path, tables: Path, share: float, made: Path) -> Path:
    """As many pages as the plain document has, that share of them with a table, evenly spread."""
    count = _count(plain)
    with closing(pypdfium2.PdfDocument.new()) as document:
        with (
            closing(pypdfium2.PdfDocument(plain)) as texts,
            closing(pypdfium2.PdfDocument(tables)) as ruled,
        ):
            for index in range(count):
                has_table = int((index + 1) * share) > int(index * share)
                document.import_pages(ruled if has_table else texts, [0 if has_table else index])
        document.save(made)
    return made
