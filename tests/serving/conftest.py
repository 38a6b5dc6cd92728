import pytest

pytest.importorskip("fastapi_offline", reason="the server needs the extra `serve`")
pytest.importorskip("prometheus_client", reason="the server needs the extra `serve`")

from tests.serving.running import Running, running, saved_example


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """Directory of the example recommender; tests that change it take a copy."""
    return saved_example(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def server(example) -> Running:
    """A server of default options that tests do not change."""
    with running(example) as found:
        yield found
