"""The notebooks run from their first to their last cell, and are kept without what a run leaves in them."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.trains
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["01_semantic_ids", "02_recommend", "03_your_own_data"]


def test_it_runs_on_toy_data(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))

    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_it_is_kept_without_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert not [cell for cell in code if cell.outputs or cell.execution_count]
    assert set(notebook.metadata) == {"kernelspec"}


def test_it_opens_with_what_it_teaches_and_how_long_it_takes(notebook):
    first = notebook.cells[0].source

    assert "What this teaches" in first and "minute" in first and "toy data" in first
