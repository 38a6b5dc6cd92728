"""The notebooks run from their first to their last cell, and are kept with what they show."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from notebooks.execute import code_digest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["01_semantic_ids", "02_recommend", "03_your_own_data"]


@pytest.mark.slow  # CI runs it by `make test-published`
def test_it_runs_on_toy_data(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))

    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_it_is_kept_as_it_ran_once_from_top_to_bottom(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert notebook.metadata["code_digest"] == code_digest(notebook), "run `make notebooks`: the code has changed since"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "display_data" in kinds and "error" not in kinds
    assert set(notebook.metadata) == {"kernelspec", "code_digest"}


def test_what_it_shows_is_quiet_and_says_nothing_of_the_machine(notebook):
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = [output.get("text", "") for output in outputs]
    texts += [text for output in outputs for kind, text in output.get("data", {}).items() if kind != "image/png"]

    assert not [output for output in outputs if output.get("name") == "stderr"]
    noise = re.compile(r"it/s|\d+%\||Warning|/(home|tmp|root|usr|work|Users|var)/|0x[0-9a-f]{8}")
    assert [match.group() for text in texts if (match := noise.search(text))] == []
    assert sum(map(len, texts)) < 20_000


def test_it_opens_with_what_it_teaches_and_how_long_it_takes(notebook):
    first = notebook.cells[0].source

    assert "This notebook" in first and "minute" in first and "toy data" in first
