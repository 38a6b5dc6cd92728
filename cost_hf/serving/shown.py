"""From answers to records of the request log: every list that was shown, to whom, by what."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cost_hf.recommenders.requests import BadRequest, RecommendRequest
from cost_hf.serving.answering import Answer
from cost_hf.serving.request_log import RequestLog
from cost_hf.serving.request_records import RequestRecord, user_labels

USER_FIELD = "user_id"  # of the body of /recommend: a label for the log, which the recommender does not read


def taken_user_id(data: Any) -> Any:
    """Remove the label of the user from the content of a body, and return it; None where there is none."""
    return data.pop(USER_FIELD, None) if isinstance(data, dict) else None


def labels_of(request: RecommendRequest, in_body: Any, header: str | None) -> list[str | None]:
    """Return a label of the user for every history of a request.

    Args:
        request: whose own user ids are the labels where it has no others.
        in_body, header: as for `user_labels`.

    Raises:
        BadRequest: for a label that is none, or another number of them than of histories.
    """
    try:
        if in_body is None and request.user_ids is not None:
            return list(request.user_ids)
        return user_labels(in_body, header, len(request.histories))
    except ValueError as error:
        raise BadRequest(USER_FIELD, str(error)) from error


class ShownLists:
    """Writes what was shown into a request log.

    Args:
        log: takes the records, and writes them later.
        variant: arm of an A/B test that this server is; None without one.
    """

    def __init__(self, log: RequestLog, variant: str | None):
        self.log = log
        self.variant = variant

    def add(self, request_id: str, request: RecommendRequest, labels: Sequence[str | None], answer: Answer) -> None:
        """Log the lists of an answer."""
        moment = datetime.now(UTC)
        options = {name: value for name, value in request.options.items() if value is not None}
        lists = answer.content["recommendations"]
        for history, label, shown in zip(request.histories, labels, lists, strict=True):
            record = RequestRecord(
                time=moment,
                request_id=request_id,
                model=answer.served.model,
                catalog=answer.served.catalog,
                shown=[(item["item_id"], item["score"]) for item in shown],
                history=history,
                options=options,
                user_id=label,
                variant=self.variant,
            )
            self.log.add(record)
