"""Clusters of Ray that are not there."""

import socket

import pytest

from cost_hf.ray_cluster import ray_cluster

pytest.importorskip("ray")


def test_an_address_at_which_nothing_listens_is_named_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"

        with (
            pytest.raises(ConnectionError, match=f"no cluster of Ray can be reached at {address} .*correct the"),
            ray_cluster(address, num_cpus=1, log_to_driver=False),
        ):
            pass
