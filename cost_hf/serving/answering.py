"""From parsed requests to answers, batch by batch: what the thread of the batches computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cost_hf.recommenders.requests import EncodeRequest, RecommendRequest, SimilarRequest
from cost_hf.serving.live import LiveRecommender, Served

Computed = RecommendRequest | SimilarRequest | EncodeRequest  # requests that wait for a batch


@dataclass(frozen=True, slots=True)
class Answer:
    """The content of an answer, and what gave it."""

    content: Mapping[str, Any]
    served: Served


class Answering:
    """Answers batches of requests of all kinds by what answers now.

    Args:
        live: holds it.
    """

    def __init__(self, live: LiveRecommender):
        self.live = live

    def answer(self, requests: Sequence[Computed]) -> list[Answer | Exception]:
        """Return an answer, or why there is none, for every request; all by one model and one state of its catalog."""
        served = self.live.served
        found: list[Any] = [None] * len(requests)
        together: dict[int, RecommendRequest] = {}
        for number, request in enumerate(requests):
            if isinstance(request, RecommendRequest):
                together[number] = request
            else:
                found[number] = _alone(served, request)
        lists = served.service.recommend_many(list(together.values()))
        for number, own in zip(together, lists, strict=True):
            found[number] = own if isinstance(own, Exception) else {"recommendations": own}
        return [own if isinstance(own, Exception) else Answer(own, served) for own in found]


def _alone(served: Served, request: SimilarRequest | EncodeRequest) -> Mapping[str, Any] | Exception:
    try:
        if isinstance(request, SimilarRequest):
            return {"similar": served.service.similar(request)}
        return {"codes": served.service.encode(request)}
    except Exception as error:
        return error


def size_of(request: Computed) -> int:
    """Return what a request counts as in a batch: histories, texts or vectors."""
    if isinstance(request, RecommendRequest):
        return len(request.histories)
    if isinstance(request, EncodeRequest):
        return len(request.texts or request.vectors or ())
    return 1
