"""LanceDB is imported without its client of remote catalogues, which is loaded once somebody uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Opens an index, then looks which modules of the client were loaded from a file.
OPEN = """
import sys
from adapters import connect
connect(sys.argv[1])
from adapters.lancedb.catalogue import CLIENT, deferred
assert deferred() and "lancedb" in sys.modules
mine = [module for name, module in sys.modules.items() if name.startswith(CLIENT)]
assert mine, "LanceDB no longer imports the client: this module has become useless"
assert not [module.__name__ for module in mine if "__file__" in vars(module)]
"""

USE = """
from lance_namespace import CreateNamespaceRequest
request = CreateNamespaceRequest(id=["a"])
assert not deferred()
assert request.id == ["a"] and isinstance(request, CreateNamespaceRequest)
import lance_namespace_urllib3_client as client
assert client.__file__ and type(request) is client.models.CreateNamespaceRequest
"""


def check(code: str, url: str) -> None:
    """Run the code in a process of its own."""
    command = [sys.executable, "-c", code, url]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr


def test_opening_an_index_loads_no_client_of_catalogues(tmp_path: Path) -> None:
    check(OPEN, f"lancedb://{tmp_path}/index")


def test_who_uses_a_class_of_the_client_gets_the_real_one(tmp_path: Path) -> None:
    check(OPEN + USE, f"lancedb://{tmp_path}/index")
