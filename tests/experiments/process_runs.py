"""Runs of one method or kind of codes after the other, in the processes of torchrun; started by test_two_processes.py.

    python -m torch.distributed.run … -m tests.experiments.process_runs DIRECTORY BACKBONE FLAG=NAME …

Each writes a run directory FLAG-NAME, or the error of one that refuses.
"""

import sys
import traceback
from pathlib import Path

from accelerate import PartialState

import cost_hf
from tests.experiments.test_every_method import fields_of


def main() -> None:
    directory, backbone, *flags = sys.argv[1:]
    state = PartialState(cpu=True)
    for flag in flags:
        field, _, name = flag.partition("=")
        place = Path(directory) / f"{field}-{name}"  # a method and a kind of codes may have one name
        try:
            cost_hf.train(
                recipe="cost_quickstart",
                overrides=fields_of(Path(backbone), **{field: name}),
                output_dir=place,
            )
        except Exception:
            if state.is_main_process:
                place.with_suffix(".error").write_text(traceback.format_exc())
        state.wait_for_everyone()
    state.destroy_process_group()  # a process that exits with its group may abort


if __name__ == "__main__":
    main()
