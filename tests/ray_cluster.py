"""A cluster of Ray that is there before the program that uses it."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving.running import wait_until

SECONDS = 600.0  # for a cluster to come up
# not the token of this machine, which Ray writes when a program starts a cluster of its own
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "RAY_AUTH_MODE": "disabled"}


@contextmanager
def started_cluster() -> Iterator[str]:
    """Yield the address of a cluster that `ray start` has brought up here, for processes in `ENVIRONMENT`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # sockets below the temporary directory of a test would have names that are too long
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address", "127.0.0.1", "--port", address.rpartition(":")[2], "--num-cpus", "2"]
        command += ["--include-dashboard", "false", "--temp-dir", folder]
        with log.open("w") as written:
            head = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, env=ENVIRONMENT)
        try:

            def is_up() -> bool:
                assert head.poll() is None, log.read_text()
                return "Ray runtime started" in log.read_text()

            wait_until(is_up, seconds=SECONDS)
            yield address
        finally:
            head.terminate()  # it ends the processes that it has started
            head.wait()
