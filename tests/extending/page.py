"""`docs/extending.md` as a package: the code blocks of the page are its modules."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import engine

#: The page.
PAGE = Path(engine.__file__).parent.parent / "docs" / "extending.md"

_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# (?P<name>\w+\.(?:py|toml))\n")


def files() -> dict[str, str]:
    """The files that the page shows, each of which begins with its name in a comment."""
    found = (block["code"] for block in _BLOCK.finditer(PAGE.read_text(encoding="utf-8")))
    return {name["name"]: code for code in found if (name := _NAME.match(code))}


def install(folder: Path) -> None:
    """Put the package into a folder of the module search path, as an installer does: modules and metadata."""
    shown = files()
    for name, code in shown.items():
        if name.endswith(".py"):
            (folder / name).write_text(code, encoding="utf-8")
    project = tomllib.loads(shown["pyproject.toml"])["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {part}" for name, part in parts.items())])
        for group, parts in project["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text("\n\n".join(groups) + "\n", encoding="utf-8")
