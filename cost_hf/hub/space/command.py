"""`cost-hf demo`."""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec

from cost_hf.command_line import CommandParser, report_errors, set_up_logging
from cost_hf.hub.commands import source_argument


def demo_main(argv: Sequence[str]) -> int:
    """Serve the demo of a run."""
    parser = CommandParser("cost-hf demo", "See what is recommended, and why.")
    parser.add_argument("source", type=source_argument, help="run directory, recommender directory, or Hub id")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at [127.0.0.1]")
    parser.add_argument("--port", type=_port, default=None, help="port [any free one]")

    def command() -> None:
        known = parser.parse_args(argv)
        if find_spec("gradio") is None:
            raise ValueError('the demo needs gradio; pip install "cost-hf[demo]"')
        set_up_logging()
        from cost_hf.hub.space.app import launch_demo  # gradio is an extra, and takes seconds to import

        launch_demo(known.source, host=known.host, port=known.port)

    return report_errors(command)


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r:.40}")
    return int(text)
