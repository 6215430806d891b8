"""The example corpus as a mapping of paths to bytes."""

from __future__ import annotations

import csv
import io
import random

from demo_clip.scenes import Scene

from .documents import essay_pdf, handbook, html, markdown, plain, recipe, ruled_tables, scanned, two_columns
from .pictures import picture_bytes, pictures
from .prose import ORIGINALS, log_month, read, vegetables

#: Year of the lighthouse log.
LOG_YEAR = 1893

#: What opens the encrypted PDF; `examples/README.md` tells it.
PASSWORD = "marzipan"

#: Where each essay goes; the suffix says in what form.
ESSAYS = {
    "bees": "nature/🐝 bees.md", "tides": "nature/tides.txt", "earthworms": "nature/earthworms.html",
    "ice": "nature/ice.txt", "volcanoes": "nature/volcanoes.pdf", "stars": "nature/stars.md",
    "bread": "craft/bread.md", "glass": "craft/glass.txt", "soap": "craft/soap.md",
    "paper": "craft/paper.html",
    "coffee": "craft/coffee and sleep/coffee.txt", "sleep": "craft/coffee and sleep/sleep.html",
    "salt": "craft/salt.md", "bridges": "craft/bridges.html", "lighthouses": "craft/lighthouses.pdf",
    "memory": "mind/memory.md", "chess": "mind/chess.txt", "maps": "world/maps.txt",
    "railways": "world/railways.md", "vaccines": "world/vaccines.txt",
}  # fmt: skip

_RENAMED = (
    "It is plain text that somebody renamed. A program that trusts suffixes hands it to a PDF library and"
    " reports a damaged file; one that looks at the first bytes reads it."
)
_SEALED = "Nobody finds this without the word."
_MENU = "Menu du café\n\nSoupe à l'oignon, tarte aux poireaux, crème brûlée. Le café est compris.\n"

_ENCODINGS = {"utf-16-le-bom": "utf-16-le"}


def corpus() -> dict[str, bytes]:
    """Every file; a name holds a surrogate escape where its bytes are not UTF-8."""
    return {**_essays(), **_texts(), **_garden(), **_sources(), **pictures(), **_odd()}


def _essays() -> dict[str, bytes]:
    files = {}
    texts = {text.fields[0]: text for text in read("essays.txt")}
    for name, path in ESSAYS.items():
        essay = texts[name]
        if path.endswith(".pdf"):
            files[f"essays/{path}"] = essay_pdf(essay.title, essay.paragraphs)
        else:
            write = {"md": markdown, "txt": plain, "html": html}[path.rpartition(".")[2]]
            files[f"essays/{path}"] = write(essay.title, essay.paragraphs).encode()
    journal = [texts[name] for name in ("tides", "stars", "glass", "railways")]
    files["essays/journal in two columns.pdf"] = two_columns("The Quarterly Journal", journal)
    return files


def _texts() -> dict[str, bytes]:
    """Notes, texts in other languages and encodings, and a log long enough to be cut into many chunks."""
    files = {
        f"notes/{note.fields[0]}": plain(note.title, note.paragraphs).encode() for note in read("notes.txt")
    }
    for text in read("languages.txt"):
        name, encoding, title = text.fields
        write = markdown if name.endswith(".md") else plain
        content = write(title, text.paragraphs)
        mark = "\ufeff" if encoding in _ENCODINGS else ""
        files[f"languages/{name}"] = (mark + content).encode(_ENCODINGS.get(encoding, encoding))
    rng = random.Random("lighthouse log")
    for month in range(1, 13):
        title, entries = log_month(LOG_YEAR, month, rng)
        write, suffix = (plain, "txt") if month % 2 else (markdown, "md")
        files[f"lighthouse log/{LOG_YEAR}/{month:02} {title.split()[3]}.{suffix}"] = write(
            title, entries
        ).encode()
    return files


def _garden() -> dict[str, bytes]:
    files = {
        f"garden/recipes/{text.fields[0].lower()}.html": recipe(text).encode() for text in read("recipes.txt")
    }
    files["garden/handbook of 40 pages.pdf"] = handbook(random.Random("handbook"))
    files["garden/seed order.pdf"] = ruled_tables()
    rows = vegetables()
    table = io.StringIO("\ufeff", newline="")
    table.seek(1)
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    files["garden/vegetables.csv"] = table.getvalue().encode()
    return files


def _sources() -> dict[str, bytes]:
    return {f"sources/{path.name}": path.read_bytes() for path in sorted((ORIGINALS / "sources").iterdir())}


def _odd() -> dict[str, bytes]:
    """Files that are not what they seem, can't be read, or have names that few programs like."""
    rng = random.Random("odd files")
    texts = {text.fields[0]: text for text in read("essays.txt")}
    star = Scene("star", "purple", 1, "large", "centre", "white")
    cross = Scene("cross", "green", 1, "medium", "centre", "white")
    heart = Scene("heart", "red", 1, "large", "centre", "white")
    ring = Scene("ring", "blue", 1, "medium", "centre", "white")
    picture = picture_bytes(star, "jpg", rng)
    return {
        "odd/empty.txt": b"",
        "odd/truncated.jpg": picture[: len(picture) * 2 // 5],
        "odd/text with a wrong suffix.pdf": plain("This is no PDF", (_RENAMED,)).encode(),
        "odd/png with a wrong suffix.jpg": picture_bytes(cross, "png", rng),
        "odd/encrypted.pdf": essay_pdf("Sealed until the spring", (_SEALED,), PASSWORD),
        "odd/scanned.pdf": scanned(texts["paper"].title, texts["paper"].paragraphs),
        "odd/unknown.bin": rng.randbytes(2048),
        "odd/.hidden.txt": b"A hidden file is left out unless --hidden is given.\n",
        "odd/names/caf\udce9 menu.txt": _MENU.encode("latin-1"),
        "odd/names/two  spaces and a 'quote'.txt": b"Names may hold spaces, quotes and much else.\n",
        "odd/names/❤️ heart.png": picture_bytes(heart, "png", rng),
        "odd/names/\udcfcbung.png": picture_bytes(ring, "png", rng),
    }  # fmt: skip
