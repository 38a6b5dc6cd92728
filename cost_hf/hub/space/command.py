"""`cost-hf demo`."""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from cost_hf.command_line import report_errors, set_up_logging


def demo_main(argv: Sequence[str]) -> int:
    """Serve the demo of a run."""
    parser = argparse.ArgumentParser(prog="cost-hf demo", description="See what is recommended, and why.")
    parser.add_argument("source", help="run directory, recommender directory, or Hub id")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at")
    parser.add_argument("--port", type=int, default=None, help="port; any free one by default")
    known = parser.parse_args(argv)
    set_up_logging()
    if find_spec("gradio") is None:
        print('error: the demo needs gradio; pip install -e ".[demo]"', file=sys.stderr)
        return 2
    from cost_hf.hub.space.app import launch_demo  # gradio is an extra, and takes seconds to import

    return report_errors(lambda: launch_demo(known.source, host=known.host, port=known.port))
