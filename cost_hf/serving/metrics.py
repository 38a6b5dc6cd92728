"""What Prometheus reads at `/metrics`."""

from collections.abc import Callable, Iterator

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cost_hf.serving.request_log import LogCounts

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OTHER = "other"  # paths that the server does not have count as one: anybody can make up more


class ServerMetrics:
    """Counters of one server, in a registry of their own.

    Args:
        paths: those of the server.
        waiting: returns how many requests wait.
    """

    def __init__(self, paths: frozenset[str], *, waiting: Callable[[], int]):
        disable_created_metrics()  # a second series of every counter, which nothing here reads
        self.registry = CollectorRegistry()
        self._paths = paths
        self._requests = Counter(
            "cost_hf_requests",
            "Requests by path and status; 499 where the client left before the answer.",
            ["path", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "cost_hf_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "cost_hf_batch_size", "Requests that were computed together.", buckets=SIZES, registry=self.registry
        )
        self._batch_seconds = Histogram(
            "cost_hf_batch_seconds", "Seconds that a batch took.", buckets=SECONDS, registry=self.registry
        )
        queue = Gauge("cost_hf_queue_length", "Requests that wait for a batch.", registry=self.registry)
        queue.set_function(waiting)
        self._reloads = Counter(
            "cost_hf_reloads",
            "Reloads of the directory by outcome: model, catalog (the weights stayed) or failed.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("model", "catalog", "failed"):  # a rate needs a zero to start from
            self._reloads.labels(outcome)
        self._recommender = Info(
            "cost_hf_recommender", "What answers: kind, digests of model and catalog.", registry=self.registry
        )
        self._items = Gauge("cost_hf_catalog_items", "Items that can be recommended.", registry=self.registry)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        known = path if path in self._paths else OTHER
        self._requests.labels(known, str(status)).inc()
        self._seconds.labels(known).observe(seconds)

    def count_batch(self, size: int, seconds: float) -> None:
        """Count a computed batch."""
        self._batch_size.observe(size)
        self._batch_seconds.observe(seconds)

    def count_reload(self, outcome: str) -> None:
        """Count a reload: `model`, `catalog` or `failed`."""
        self._reloads.labels(outcome).inc()

    def show_recommender(self, facts: dict[str, str], num_items: int) -> None:
        """Take what answers from now on."""
        self._recommender.info(facts)
        self._items.set(num_items)

    def show_log(self, counts: Callable[[], LogCounts]) -> None:
        """Show how many records of the request log were written, dropped and failed."""
        self.registry.register(_LogCollector(counts))

    def text(self) -> bytes:
        """Return all of them in the format of Prometheus."""
        return generate_latest(self.registry)


class _LogCollector(Collector):
    """Counters of the request log, which counts by itself."""

    def __init__(self, counts: Callable[[], LogCounts]):
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        found = self._counts()
        records = CounterMetricFamily(
            "cost_hf_request_log_records", "Records of the request log by outcome.", labels=["outcome"]
        )
        for outcome in ("written", "dropped", "failed"):
            records.add_metric([outcome], getattr(found, outcome))
        yield records
