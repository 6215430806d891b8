"""Real files to measure with: those of Debian packages, unpacked into a folder. Nothing is installed.

python -m benchmarks.speed.debian FOLDER PACKAGE...
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.command import BenchError

#: Packages with manuals as PDF, with documents as HTML and text, and with photographs.
MANUALS = ("octave-doc", "r-doc-pdf", "developers-reference", "gnuplot-doc", "debian-policy")
DOCUMENTS = ("debian-handbook", "octave-doc", "debian-policy")
PHOTOGRAPHS = ("mate-backgrounds",)


def unpacked(folder: Path, packages: Iterable[str]) -> list[Path]:
    """The folders of these packages' files, fetched where they aren't there. Raises `BenchError`."""
    return [_unpacked(folder, package) for package in packages]


def files(folders: Iterable[Path], *suffixes: str) -> list[Path]:
    """The files below these folders with one of these suffixes, in a fixed order; links are left out."""
    found = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [path for path in found if path.suffix in suffixes and path.is_file() and not path.is_symlink()]


def _unpacked(folder: Path, package: str) -> Path:
    place = folder / package
    if place.exists():
        return place
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise BenchError(f"{package}: apt-get and dpkg are needed to fetch it; or unpack it into {place}")
    fetched = folder / f"{package}.fetched"
    shutil.rmtree(fetched, ignore_errors=True)
    fetched.mkdir(parents=True)
    _run(["apt-get", "download", package], fetched)
    (archive,) = fetched.glob("*.deb")
    _run(["dpkg", "-x", archive.name, "files"], fetched)
    for packed in (fetched / "files").rglob("*.pdf.gz"):
        _run(["gunzip", str(packed)], fetched)
    (fetched / "files").rename(place)
    shutil.rmtree(fetched)
    return place


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")


if __name__ == "__main__":
    try:
        print(*unpacked(Path(sys.argv[1]), sys.argv[2:]), sep="\n")
    except (BenchError, IndexError) as error:
        sys.exit(f"benchmarks.speed.debian: {error}")
