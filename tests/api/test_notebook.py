"""The notebook of the examples, executed as its readers do."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

#: Seconds after which a cell counts as hung.
HANG_S = 300


def test_the_quickstart_embeds_searches_and_shows_pictures() -> None:
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=HANG_S, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}
    )
    client.execute()  # raises where a cell does
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    printed = ["".join(o.text for o in cell.outputs if o.get("name") == "stdout") for cell in cells]
    shown = [{kind for o in cell.outputs for kind in o.get("data", {})} for cell in cells]
    assert printed[1] == "(3, 384) float32\n"
    assert "66 pictures" in printed[2] and "failed: encrypted.pdf" in printed[2]
    assert "tides.txt" in printed[3]
    assert sum("image/png" in kinds for kinds in shown) == 2
    assert printed[6] == "memory://note\n"
    # Its readers see what it gives before they run it.
    stored = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert (
        sum("image/png" in o.get("data", {}) for cell in stored.cells for o in cell.get("outputs", [])) == 2
    )
