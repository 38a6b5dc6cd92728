"""The toy data of `data.reader: synthetic`, by the name of its world."""

from collections.abc import Callable, Mapping

from cost_hf.data.options import DataOptions
from cost_hf.data.returning_interests import make_returning_interests
from cost_hf.data.synthetic import SyntheticNews, make_news

WORLDS: Mapping[str, Callable[..., SyntheticNews]] = {
    "news": make_news,
    "returning_interests": make_returning_interests,
}


def make_toy(options: DataOptions) -> SyntheticNews:
    """Return the toy data that the options name."""
    make = WORLDS[options.synthetic_world]
    return make(seed=options.seed, num_users=options.synthetic_users, num_items=options.synthetic_items)
