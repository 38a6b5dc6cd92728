"""Garbage collection while modules and models load."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Postpone garbage collection to the end of the block.

    Imports of torch and transformers and a load make hundreds of thousands of objects that stay. Each full collection
    among them walks through all of these and frees hardly anything, which costs a tenth of the time until a recommender
    answers.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
