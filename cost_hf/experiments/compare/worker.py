"""One run of a comparison, in a process of its own; its arguments are recipe, seed, run directory, shared directory."""

import logging
import sys

from cost_hf.experiments.pipeline import train


def main(recipe: str, seed: str, output_dir: str, shared_dir: str) -> None:
    """Train and evaluate; an error ends the process with its message as the last line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # whether other data may replace what is there was decided for the comparison as a whole
    train(recipe=recipe, seed=int(seed), output_dir=output_dir, shared_dir=shared_dir, overwrite=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
