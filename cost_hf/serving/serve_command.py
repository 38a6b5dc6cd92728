"""The command `cost-hf serve`. Arguments are checked before torch and FastAPI are imported, which takes seconds."""

import argparse
import math
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from cost_hf.bulk import ENGINES
from cost_hf.command_line import CommandParser, check_target, report_errors, source_argument
from cost_hf.serving.access import ITEMS_TOKEN, TOKEN, Tokens
from cost_hf.serving.log_files import FORMATS
from cost_hf.serving.options import ServeOptions
from cost_hf.serving.request_log import LogOptions

LEVELS = ("debug", "info", "warning", "error")
DEFAULTS = ServeOptions()
RAY = "ray"
REPLICAS = 2
PACKAGES = ("fastapi", "fastapi_offline", "prometheus_client", "uvicorn")  # of the extra


def serve_main(argv: Sequence[str]) -> int:
    """Serve a recommender over HTTP."""
    parser = serve_parser()

    def command() -> None:
        known = parser.parse_args(argv)
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise ValueError(f'the server needs {", ".join(missing)}; pip install "cost-hf[serve]"')
        for name in ("replicas", "address"):
            if known.engine != RAY and getattr(known, name) is not None:
                raise ValueError(f"--{name} is of the engine ray, and --engine is {known.engine}; add --engine ray")
        check_target(known.request_log, is_directory=True)
        options = _options(known)
        # read when torch is loaded: threads of the model that spin while they wait for each other would take the cores
        # from the server, and from each other where there are fewer cores than threads
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        from cost_hf.serving.logs import set_up_json_logs
        from cost_hf.serving.server import serve, set_threads

        set_up_json_logs(known.log_level)
        if known.engine == RAY:
            from cost_hf.serving.ray_serve import serve_on_ray

            serve_on_ray(
                known.source,
                options,
                replicas=known.replicas or REPLICAS,
                threads=known.threads or 1,
                address=known.address,
                log_level=known.log_level,
            )
            return
        set_threads(known.threads)
        serve(known.source, options)

    return report_errors(command)


def serve_parser() -> CommandParser:
    """Return the parser of the arguments."""
    parser = CommandParser(
        "cost-hf serve",
        "Serve a recommender over HTTP; /docs on the server describes the requests.",
        epilog=f"environment:\n  {TOKEN:<20} bearer token that requests need; none by default\n"
        f"  {ITEMS_TOKEN:<20} bearer token of /items, which is off without it",
    )
    add = parser.add_argument
    add("source", type=source_argument, help="run directory, recommender directory, or Hub id")
    add("--host", default=DEFAULTS.host, help=f"address of the server [{DEFAULTS.host}]")
    add("--port", type=_whole(0, 65535), default=DEFAULTS.port, help=f"port, 0 for any free one [{DEFAULTS.port}]")
    add(
        "--threads",
        type=_whole(1, 1024),
        default=None,
        help="threads of the model [all cores, or OMP_NUM_THREADS; 1 a replica of Ray]",
    )
    add("--engine", choices=ENGINES, default=ENGINES[0], help=f"this process, or replicas on Ray [{ENGINES[0]}]")
    add("--replicas", type=_whole(1, 10_000), default=None, help=f"processes of Ray that answer [{REPLICAS}]")
    add("--address", default=None, help="of a running Ray cluster [one on this machine]")
    add(
        "--max-batch",
        type=_whole(1, 10_000),
        default=DEFAULTS.max_batch,
        help=f"most histories that are answered together [{DEFAULTS.max_batch}]",
    )
    add(
        "--max-wait",
        type=_number(0, 1000),
        default=1e3 * DEFAULTS.max_wait,
        help=f"milliseconds that a request waits at most for others [{1e3 * DEFAULTS.max_wait:g}]",
    )
    add(
        "--max-queue",
        type=_whole(1, 1_000_000),
        default=DEFAULTS.max_queue,
        help=f"most histories that wait; requests beyond get status 503 [{DEFAULTS.max_queue}]",
    )
    add(
        "--timeout",
        type=_number(0.001, 3600),
        default=DEFAULTS.timeout,
        help=f"seconds after which a request gets status 504 [{DEFAULTS.timeout:g}]",
    )
    add(
        "--drain",
        type=_number(0, 3600),
        default=DEFAULTS.drain,
        help="seconds between SIGTERM, after which /ready has status 503, and the end of the listening "
        f"[{DEFAULTS.drain:g}]",
    )
    add(
        "--poll",
        type=_number(0.05, 3600),
        default=DEFAULTS.poll,
        help=f"seconds between two looks at the directory, whose changes are taken over [{DEFAULTS.poll:g}]",
    )
    add("--request-log", default=None, metavar="DIR", help="log every list that is shown there, for `cost-hf replay`")
    add("--request-log-format", choices=FORMATS, default=FORMATS[0], help=f"of its files [{FORMATS[0]}]")
    add("--request-log-without-histories", action="store_true", help="leave histories out of it")
    add("--variant", default=None, help="name of this server in an A/B test, for the request log")
    add(
        "--log-level",
        choices=LEVELS,
        default="info",
        help="lowest level that is logged; requests are logged at info [info]",
    )
    return parser


def _options(known: argparse.Namespace) -> ServeOptions:
    return ServeOptions(
        host=known.host,
        port=known.port,
        max_batch=known.max_batch,
        max_wait=known.max_wait / 1e3,
        max_queue=known.max_queue,
        timeout=known.timeout,
        drain=known.drain,
        poll=known.poll,
        request_log=None if known.request_log is None else Path(known.request_log),
        log=LogOptions(format=known.request_log_format, with_histories=not known.request_log_without_histories),
        variant=known.variant,
        tokens=Tokens.from_environment(),
    )


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or len(text) > 9 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r:.40}")
        return int(text)

    return parse


def _number(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:  # NaN is in no range
            raise argparse.ArgumentTypeError(f"expected a number from {least:g} to {most:g}, got {text!r:.40}")
        return value

    return parse
