"""Requests of Inference Endpoints: JSON in, JSON out, and errors that name the field.

    {"inputs": ["item-1", "item-7"], "parameters": {"top_k": 5}}  ->  {"recommendations": [[{"item_id", "score", …}]]}

No request raises: errors are returned as `{"error": {"field", "message"}}`.
"""

import logging
from typing import Any

from cost_hf.experiments.reading_options import ReadingOptions
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.requests import BadRequest, FailedRequest, parse
from cost_hf.recommenders.service import RecommenderService

logger = logging.getLogger(__name__)


class EndpointHandler:
    """Answers requests by a recommender of any kind; several threads may use one.

    Args:
        path: a run directory, a recommender directory, or a Hub id.
    """

    def __init__(self, path: str = ""):
        source = path or "."
        self.service = RecommenderService(Recommender.from_pretrained(source), data=ReadingOptions.of(source).options)

    def __call__(self, data: Any) -> dict[str, Any]:
        """Answer one request.

        Args:
            data: `inputs`: a history (item ids, oldest first) or a list of histories; `parameters`: any of `top_k`,
                `exclude_seen`, `allowed`, `denied`, `where`, `diversify`, `on_unknown`, `on_empty`, `cold_share`,
                `explain`, `exact`, `user_ids`, as for `recommend`; bounds of `where` are `{"min": …, "max": …}`. Items
                that the catalog does not hold are dropped, and empty histories answered by popularity, by default.

        Returns:
            `recommendations`, one list per history, best first; or `error` with `field` and `message`.
        """
        try:
            return {"recommendations": self.service.recommend(parse(data))}
        except BadRequest as error:
            return error.as_json()
        except Exception:  # the client gets no traceback of the server
            logger.exception("a request failed")
            return FailedRequest().as_json()
