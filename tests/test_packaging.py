"""What the code imports is what setup.cfg asks for, by name."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent


def declared() -> set[str]:
    """Every distribution that setup.cfg names, extras included, as PyPI writes names."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"].splitlines()
    for extra in ("offline", "openvino"):
        lines += config["options.extras_require"][extra].splitlines()
    return {normal(re.split(r"[<>=;\[ ]", line)[0]) for line in lines if line and not line.startswith("#")}


def normal(name: str) -> str:
    """A distribution's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(path: Path) -> set[str]:
    """The top-level packages that a module imports, anywhere in it, but for what only types need."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.partition(".")[0] for name in found}


def test_each_package_that_is_imported_is_asked_for_by_name() -> None:
    ours = {"engine", "adapters", "_typeshed"} | sys.stdlib_module_names
    known, wanted = packages_distributions(), declared()
    lacking = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in ("engine", "adapters")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in sorted(imports(path) - ours)
        if not wanted & {normal(each) for each in known.get(name, [name])}
    ]
    assert not lacking
