"""Whether a run may be served, exported or published: it has to be finished."""

from pathlib import Path


def check_run(source: str | Path) -> None:
    """Raise FileNotFoundError for a run directory that is not finished; other sources are no runs and pass."""
    run = Path(source)
    if (run / "recipe.yaml").is_file() and not (run / "evaluation" / "results.json").is_file():
        raise FileNotFoundError(
            f"{run} is a run that is not finished: it holds no evaluation/results.json; the command that began it "
            "goes on from there"
        )
