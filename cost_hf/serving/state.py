"""What the parts of one server share."""

from dataclasses import dataclass

from cost_hf.serving.batching import Batcher
from cost_hf.serving.live import LiveRecommender
from cost_hf.serving.metrics import ServerMetrics
from cost_hf.serving.options import ServeOptions
from cost_hf.serving.shown import ShownLists


@dataclass
class ServerState:
    """The parts of one server.

    Attributes:
        options: of the server.
        live: holds what answers.
        batcher: answers in batches.
        encoder: encodes texts in batches, in another thread: a text encoder may take seconds to load, and no request
            for recommendations waits for that.
        metrics: of the server.
        shown: writes the request log; None without one.
        is_draining: whether it stops soon, so that no more requests should be sent to it.
    """

    options: ServeOptions
    live: LiveRecommender
    batcher: Batcher
    encoder: Batcher
    metrics: ServerMetrics
    shown: ShownLists | None = None
    is_draining: bool = False

    @property
    def batchers(self) -> tuple[Batcher, Batcher]:
        """Both of them."""
        return self.batcher, self.encoder

    @property
    def is_alive(self) -> bool:
        """Whether requests can be answered."""
        return all(batcher.is_alive for batcher in self.batchers)
