"""The server as replicas on Ray Serve: every one is the whole application, and Ray spreads requests over them.

Ray starts replicas, asks each whether it is alive, starts a dead one anew and sends its share of the requests to the
others meanwhile. Batches, limits, tokens and metrics are those of the application, one replica at a time, and so is
hot reload: each replica follows the directory by itself, so a new catalog arrives at all of them within `poll` seconds
without a restart. All nodes of a cluster need the same path to the directory.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from cost_hf.files import first_line
from cost_hf.ray_cluster import INSTALL, ray_cluster
from cost_hf.recommenders.repository import locate
from cost_hf.serving.app import build_app
from cost_hf.serving.logs import set_up_json_logs
from cost_hf.serving.options import ServeOptions
from cost_hf.serving.server import bound_socket, set_threads

logger = logging.getLogger(__name__)
APPLICATION = "cost_hf"
DEPLOYMENT = "Recommender"
HEALTH_SECONDS = 5.0  # between two questions to a replica whether it is alive
HEALTH_TIMEOUT = 60.0  # a batch may hold the interpreter for long


class Replica:
    """One replica: the application, in a process of its own.

    Args:
        source: run directory, recommender directory, or Hub id.
        options: of the server.
        threads: of the model.
        log_level: lowest level that is logged.
    """

    def __init__(self, source: str, options: ServeOptions, threads: int, log_level: str):
        set_up_json_logs(log_level)
        set_threads(threads)
        self._app = build_app(source, options)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application; Ray runs it, with what starts and stops with it."""
        return self._app

    def check_health(self) -> None:
        """Raise where requests can't be answered any more; Ray then starts another replica in place of this one."""
        if not self._app.state.serving.is_alive:
            raise RuntimeError("the threads that answer have ended")


def ray_application(
    source: str | Path, options: ServeOptions, *, replicas: int, threads: int = 1, log_level: str = "info"
) -> Any:
    """Return the application for `ray.serve.run`, which deploys it on a running cluster.

    Args:
        source: run directory, recommender directory, or Hub id.
        options: of the server; host and port are those of the cluster.
        replicas: processes that answer.
        threads: of the model, and CPUs that Ray reserves for a replica.
        log_level: lowest level that is logged.

    Raises:
        ValueError: without Ray.
    """
    serve = _ray_serve()
    from ray.serve.schema import LoggingConfig

    deployment = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=replicas,
        # the application itself refuses what is too much, with a reason and a time to try again
        max_ongoing_requests=options.max_queue + options.max_batch,
        max_queued_requests=replicas * options.max_queue,
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=HEALTH_TIMEOUT,
        graceful_shutdown_timeout_s=options.drain + options.timeout,
        ray_actor_options={
            "num_cpus": threads,
            # read when torch is loaded; `cost-hf serve` says why
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}},
        },
        logging_config=LoggingConfig(enable_access_log=False),  # the application logs requests
    )(serve.ingress()(Replica))
    return deployment.bind(_everywhere(source), options, threads, log_level)


def serve_on_ray(
    source: str | Path,
    options: ServeOptions,
    *,
    replicas: int,
    threads: int = 1,
    address: str | None = None,
    log_level: str = "info",
) -> None:
    """Serve a recommender by replicas until a signal comes.

    Args:
        source, options, replicas, threads, log_level: as for `ray_application`.
        address: of a running cluster; None starts one on this machine for the time of the serving.

    Raises:
        OSError: where nothing is found, the port is not free, or no cluster can be reached at the address.
        ValueError: without Ray, where no replica can be started, or where Ray Serve runs on the cluster already.
    """
    application = ray_application(source, options, replicas=replicas, threads=threads, log_level=log_level)
    locate(source)  # an error here is readable, and that of a replica is a page
    with bound_socket(options.host, options.port) as listener:
        port = listener.getsockname()[1]
    with ray_cluster(address, num_cpus=replicas * threads, log_to_driver=True), _signals() as is_stopping:
        serve = _ray_serve()
        if serve.status().proxies:
            raise ValueError(
                "Ray Serve runs on this cluster already, on a port of its own, and would not listen on "
                f"{options.host}:{port}; end it by `serve shutdown`, or take another cluster"
            )
        serve.start(http_options={"host": options.host, "port": port})
        try:
            try:
                serve.run(application, name=APPLICATION, route_prefix="/")
            except RuntimeError as error:
                raise ValueError(
                    f"no replica could be started ({first_line(error)}); the log of the replicas says why: cost-hf "
                    "serve without --engine ray shows the same error"
                ) from error
            facts = {"address": f"http://{options.host}:{port}", "replicas": replicas}
            logger.info("listening", extra={"fields": facts})
            is_stopping.wait()
        finally:
            try:
                serve.delete(APPLICATION)
            except TimeoutError:
                logger.warning("replicas are still answering or starting; Ray ends them when they have finished")
            if address is None or not serve.status().applications:
                serve.shutdown()  # on a cluster that goes on it would keep the port
    logger.info("stopped")


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    event = threading.Event()
    before = {number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ray_serve() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        from ray import serve
    except ImportError as error:
        raise ValueError(INSTALL) from error
    return serve


def _everywhere(source: str | Path) -> str:
    """Return a directory from the root on, since replicas run in other ones; Hub ids stay as they are."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else str(source)
