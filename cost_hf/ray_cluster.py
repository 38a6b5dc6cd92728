"""A cluster of Ray for the time of some work: one that is running, or one on this machine."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cost_hf.files import first_line

REACHED_SECONDS = 10.0  # for a connection; Ray itself tries for many minutes
INSTALL = "the engine ray needs the package ray; pip install 'cost-hf[ray]'"


@contextmanager
def ray_cluster(address: str | None, *, num_cpus: int, log_to_driver: bool) -> Iterator[None]:
    """Connect this process to a cluster inside the block; one that is connected already stays so.

    Args:
        address: of a running cluster; None starts one on this machine.
        num_cpus: of the one that is started.
        log_to_driver: show what its workers print.

    Raises:
        ValueError: without Ray.
        ConnectionError: where no cluster can be reached at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ValueError(INSTALL) from error
    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {"address": "local", "num_cpus": num_cpus, "include_dashboard": False}
    if address is not None:
        _require_listening(address)
        own = {"address": address}
    try:
        ray.init(log_to_driver=log_to_driver, logging_level="warning", **own)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        if address is None:
            raise
        raise _unreachable(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_listening(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:  # as `auto`, which Ray looks up
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACHED_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"no cluster of Ray can be reached at {address} ({first_line(error)}); correct the address, and set "
        "RAY_AUTH_MODE=token where the cluster asks for a token"
    )
