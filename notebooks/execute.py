"""Run the notebooks and keep what they show: `python notebooks/execute.py`, or `make notebooks`.

A notebook is kept with its outputs, and with the digest of the code that gave them, so that a test can tell outputs of
older code. Nothing of the machine stays: no paths, no times, no bars.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from cost_hf.files import content_digest

FOLDER = Path(__file__).parent
SECONDS = 600


def code_digest(notebook: nbformat.NotebookNode) -> str:
    """Return the digest of all code cells."""
    return content_digest([cell.source for cell in notebook.cells if cell.cell_type == "code"])


def execute(path: Path) -> None:
    """Run one notebook in an empty folder and write it back with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()
    for cell in notebook.cells:
        cell.metadata.clear()  # when each cell began and ended
        if cell.cell_type == "code":  # what libraries log is no part of the lesson
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "code_digest": code_digest(notebook)}
    nbformat.write(notebook, path)


def main() -> None:
    """Run all notebooks, or those that are named."""
    paths = [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb"))
    for path in paths:
        execute(path)
        print(path.name)


if __name__ == "__main__":
    main()
