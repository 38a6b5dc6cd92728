"""One recommender that answers requests of many clients: the core of the server, the endpoint handler and the demo.

Requests whose options are equal are answered by one call of the recommender, whoever sent them. What the recommender
would refuse is refused before that, for the one request, so it does not spoil the others. Every call reads one state of
the catalog, so changes may happen meanwhile, and several threads may use one service.
"""

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cost_hf.data.cells import in_forms
from cost_hf.data.options import DataOptions
from cost_hf.quantizers.base import Quantizer
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.item_changes import ItemChanges
from cost_hf.recommenders.item_evidence import ItemEvidence
from cost_hf.recommenders.list_constraints import ValueLimits
from cost_hf.recommenders.rankers import exact_ranker
from cost_hf.recommenders.requests import (
    USER_IDS,
    BadRequest,
    ChangeRequest,
    EncodeRequest,
    FailedRequest,
    RecommendRequest,
    RequestError,
    SimilarRequest,
)
from cost_hf.recommenders.similar_items import SimilarItemSearch
from cost_hf.search.exact_search import BUDGET
from cost_hf.semantic_ids.item_columns import type_name
from cost_hf.semantic_ids.vocabulary import SidVocabulary

logger = logging.getLogger(__name__)
MAX_BEAMS = 6_400  # of one call: histories times beams, twice with a quota of cold items, limits or explanations
ATTEMPTS = 3  # to answer from a catalog that changes between the checks and the answer
ANSWER_FIELDS = ("source", "title", "explanation", "is_exact", "bound")
Answers = list[list[dict[str, Any]]]  # one list per history, best first


@runtime_checkable
class SidEncoder(Protocol):
    """A recommender whose quantizer, where it has one, gives texts and item vectors their codes."""

    quantizer: Quantizer | None
    vocabulary: SidVocabulary

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the model-level codes of texts, int64 `[n, L_model]`."""
        ...

    def encode_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Return the model-level codes of vectors `[n, E]`, int64 `[n, L_model]`."""
        ...


class RecommenderService:
    """Answers requests by a recommender of any kind; several threads may use one service.

    Args:
        recommender: of any kind.
        data: data section of its run, by which new items are read and ids of requests normalised; the defaults where
            the run is not known.

    Examples:
        >>> from cost_hf.recommenders.example import example_recommender
        >>> from cost_hf.recommenders.requests import parse
        >>> service = RecommenderService(example_recommender())
        >>> (answers,) = service.recommend(parse({"inputs": ["kettle", "teapot"], "parameters": {"top_k": 2}}))
        >>> len(answers), sorted(answers[0])
        (2, ['item_id', 'score', 'source', 'title'])
    """

    def __init__(self, recommender: Recommender, *, data: DataOptions | None = None):
        self.recommender = recommender
        self.data = data or DataOptions()
        self._similar: SimilarItemSearch | None = None  # in the snapshot of the last such request
        self._model_digest: tuple[int, str] | None = None  # and how many new clicks it is of

    def recommend(self, request: RecommendRequest) -> Answers:
        """Answer one request.

        Returns:
            One list per history, best first, of `{"item_id", "score"}` and, where they are known, `source`, `title`,
            `explanation`, `is_exact` and `bound`; values are JSON, and numbers that JSON does not have are None.

        Raises:
            BadRequest: for an item, column or option that this recommender does not have.
        """
        request = self._own(request)
        attempts = ATTEMPTS
        while True:
            attempts -= 1
            snapshot = self.recommender.snapshot
            try:
                self._check_options(request.options, snapshot)
                self._check_histories(request, snapshot)
                return self._lists([request])[0]
            except BadRequest:
                raise
            except (KeyError, ValueError):
                if self.recommender.snapshot is snapshot or not attempts:
                    raise

    def recommend_many(self, requests: Sequence[RecommendRequest]) -> list[Answers | RequestError]:
        """Answer several requests, each as it would be answered alone (scores up to rounding).

        Requests of equal options share calls of the recommender, of at most `MAX_BEAMS` each.

        Returns:
            For every request its answer, as `recommend` returns it, or why it has none: a `BadRequest`, or a
            `FailedRequest` where the recommender failed, which is logged.
        """
        requests = [self._own(request) for request in requests]
        answers: list[Answers | RequestError] = [FailedRequest() for _ in requests]
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(request.options_key, []).append(number)
        for numbers in groups.values():
            for batch in self._batches(requests, numbers, answers):
                try:
                    found = self._lists([requests[number] for number in batch])
                except Exception:  # one of them, or a catalog that has changed: find out which
                    for number in batch:
                        answers[number] = self._alone(requests[number])
                else:
                    for number, own in zip(batch, found, strict=True):
                        answers[number] = own
        return answers

    def similar(self, request: SimilarRequest) -> list[dict[str, Any]]:
        """Return the items that are most similar to one, best first, each as in a list of `recommend`.

        `source` is what they are compared by: `text` (cosines of text vectors), `item_vectors` (cosines of other
        vectors that items are encoded by, or of what the model has learned), or `semantic_id` (the number of leading
        codes in common, at least one). A recommender that has none of these, such as counts, lists what it recommends
        after the item.

        Raises:
            BadRequest: for an item that the catalog does not hold, or a wrong filter.
        """
        snapshot = self.recommender.snapshot
        catalog = snapshot.catalog
        item = in_forms(request.item_id, self.data.normalize_ids)
        if item not in catalog:
            raise BadRequest("item_id", f"{_shown([item])} not in the catalog")
        options = self._own_options(request.options)
        self._check_columns(options, snapshot)
        row = catalog.row_of(item)
        mask = snapshot.base_mask(options["allowed"], options["denied"], options["where"])
        allowed = np.ones(len(catalog), dtype=bool) if mask is None else mask.dense(1)[0].cpu().numpy().copy()
        found = self._search_in(snapshot).find(row, options["top_k"], allowed)
        if found is None:
            return self.recommend(RecommendRequest.of([[item]], **options))[0]
        titles = catalog.titles or [None] * len(catalog)
        return [
            {"item_id": catalog.item_ids[other], "score": float(score), "source": found.source}
            | ({} if titles[other] is None else {"title": titles[other]})
            for other, score in zip(found.rows, found.scores, strict=True)
        ]

    def encode(self, request: EncodeRequest) -> list[dict[str, Any]]:
        """Return the codes of texts or item vectors by the quantizer of a generator, or of the first such part.

        Returns:
            `{"codes": [L_model numbers], "tokens": [their texts]}` for every text or vector. A catalog appends a level
            to tell items of equal codes apart, so the semantic ID of an item may be longer.

        Raises:
            BadRequest: for a recommender without quantizer, texts without text encoder, or vectors of another width.
        """
        parts = (self.recommender, *self.recommender.parts.values())
        owner = next((part for part in parts if isinstance(part, SidEncoder) and part.quantizer is not None), None)
        place = "texts" if request.texts is not None else "vectors"
        if owner is None:
            raise BadRequest(place, f"this recommender of kind {self.recommender.kind} has no quantizer to encode with")
        try:
            if request.texts is not None:
                codes = owner.encode(list(request.texts))
            else:
                codes = owner.encode_vectors(np.array(request.vectors, dtype=np.float32))
        except ValueError as error:
            raise BadRequest(place, str(error)) from error
        tokens = owner.vocabulary.texts(codes)
        return [{"codes": own, "tokens": texts} for own, texts in zip(codes.tolist(), tokens, strict=True)]

    def change_items(self, request: ChangeRequest) -> dict[str, Any]:
        """Add, change and remove items in memory: all that is asked for, or nothing.

        Items are read as the item table of the run was; later requests are answered from the changed catalog. The
        directory stays as it is: `recommender.save_catalog` writes to it.

        Returns:
            What has changed, as `ItemChanges.apply` returns it.

        Raises:
            BadRequest: for an item or value that can't be taken; the field is named, and nothing has changed.
        """
        return ItemChanges(self.recommender, self.data).apply(request)

    def describe(self) -> dict[str, Any]:
        """Return what answers, as JSON: digests of model and catalog, and what requests may ask for.

        `model` is the digest of the weights or counts, and of how they are searched; `catalog` that of all content of
        the present catalog, columns among it.
        """
        recommender = self.recommender
        catalog = recommender.catalog
        clicks = recommender.num_new_clicks
        if self._model_digest is None or self._model_digest[0] != clicks:
            self._model_digest = (clicks, recommender.model_digest)
        num_removed = int(catalog.removed.sum())
        return {
            "kind": recommender.kind,
            "model": self._model_digest[1],
            "catalog": catalog.version,
            "num_items": len(catalog) - num_removed,
            "num_removed": num_removed,
            "columns": {name: type_name(array.type) for name, array in catalog.columns.arrays.items()},
            "needs_user_ids": recommender.needs_user_ids,
            "can_explain": recommender.can_explain,
            "new_item_inputs": list(recommender.new_item_inputs),
        }

    def _own(self, request: RecommendRequest) -> RecommendRequest:
        """Return a request with the ids that the run has made of those of its tables."""
        forms = self.data.normalize_ids
        if not forms:
            return request
        users = request.user_ids
        return RecommendRequest(
            tuple(tuple(in_forms(item, forms) for item in history) for history in request.histories),
            self._own_options(request.options),
            None if users is None else tuple(in_forms(user, forms) for user in users),
        )

    def _own_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        forms = self.data.normalize_ids
        lists = {name: options[name] for name in ("allowed", "denied") if options[name] is not None}
        return {**options, **{name: [in_forms(item, forms) for item in ids] for name, ids in lists.items()}}

    def _search_in(self, snapshot: CatalogSnapshot) -> SimilarItemSearch:
        """Return the search for similar items, made once for every state of the catalog."""
        search = self._similar
        if search is None or search.snapshot is not snapshot:
            evidence = ItemEvidence.of(self.recommender, snapshot.catalog)
            search = SimilarItemSearch(snapshot, evidence, self.recommender.learned_item_vectors(snapshot))
            self._similar = search
        return search

    def _lists(self, requests: Sequence[RecommendRequest]) -> list[Answers]:
        """Answer checked requests of equal options by one call."""
        histories = [list(history) for request in requests for history in request.histories]
        users = None
        if self.recommender.needs_user_ids:
            users = [user for request in requests for user in request.user_ids or ()]
        found = self.recommender.recommend(histories, **requests[0].options, user_ids=users)
        lists = [[_answer(entry) for entry in entries] for entries in found]
        ends = itertools.accumulate(len(request.histories) for request in requests)
        return [lists[end - len(request.histories) : end] for request, end in zip(requests, ends, strict=True)]

    def _batches(
        self, requests: Sequence[RecommendRequest], numbers: Sequence[int], answers: list[Answers | RequestError]
    ) -> Iterator[list[int]]:
        """Yield numbers of requests of equal options that one call answers; put errors of the others into `answers`."""
        snapshot = self.recommender.snapshot
        options = requests[numbers[0]].options
        error = _refusal(partial(self._check_options, options, snapshot))
        if error is not None:
            for number in numbers:
                answers[number] = error
            return
        room = max(1, MAX_BEAMS // self._beams(options))
        batch: list[int] = []
        size = 0
        for number in numbers:
            request = requests[number]
            error = _refusal(partial(self._check_histories, request, snapshot))
            if error is not None:
                answers[number] = error
                continue
            if batch and size + len(request.histories) > room:
                yield batch
                batch = []
                size = 0
            batch.append(number)
            size += len(request.histories)
        if batch:
            yield batch

    def _alone(self, request: RecommendRequest) -> Answers | RequestError:
        try:
            return self.recommend(request)
        except BadRequest as error:
            return error
        except Exception:  # the client gets no traceback of the server
            logger.exception("a request failed")
            return FailedRequest()

    def _check_options(self, options: Mapping[str, Any], snapshot: CatalogSnapshot) -> None:
        """Raise `BadRequest` for options that this recommender does not take, whatever the history."""
        self._check_columns(options, snapshot)
        if options["explain"] and not self.recommender.can_explain:
            message = "this recommender knows neither semantic IDs nor texts of its items; leave it out"
            raise BadRequest("parameters.explain", message)
        if options["exact"]:
            try:
                exact_ranker(self.recommender.ranker_for(options["top_k"]))
            except ValueError as error:
                message = "this recommender scores candidates alone, so no list can be proved; leave it out"
                raise BadRequest("parameters.exact", message) from error

    def _check_columns(self, options: Mapping[str, Any], snapshot: CatalogSnapshot) -> None:
        """Raise `BadRequest` for items or columns that the catalog does not hold, or a filter that no item fulfils."""
        for name in ("allowed", "denied"):
            unknown = [item for item in options[name] or () if item not in snapshot.catalog]
            if unknown:
                raise BadRequest(f"parameters.{name}", f"{_shown(unknown)} not in the catalog; leave them out")
        checks: dict[str, Callable[[Any], Any]] = {
            "where": snapshot.filtered,
            "diversify": lambda limits: ValueLimits.of(limits, snapshot.catalog.columns),
        }
        for name, check in checks.items():
            if options.get(name) is not None:
                try:
                    check(options[name])
                except ValueError as error:
                    raise BadRequest(f"parameters.{name}", str(error)) from error

    def _check_histories(self, request: RecommendRequest, snapshot: CatalogSnapshot) -> None:
        """Raise `BadRequest` for histories that these options refuse, missing users, or too much work."""
        catalog = snapshot.catalog
        histories = request.histories
        if self.recommender.needs_user_ids and request.user_ids is None:
            message = (
                "this generator was trained with user tokens; send one user id per history, with any unused id for a "
                "new user"
            )
            raise BadRequest(f"parameters.{USER_IDS}", message)
        if request.options["on_unknown"] == "error":
            unknown = [item for history in histories for item in history if item not in catalog]
            if unknown:
                raise BadRequest("inputs", f"{_shown(unknown)} not in the catalog; leave them out, or on_unknown: drop")
        if request.options["on_empty"] == "error":
            empty = [number for number, history in enumerate(histories) if not any(item in catalog for item in history)]
            if empty:
                raise BadRequest("inputs", f"history {empty[0]} holds no item of the catalog; or on_empty: popularity")
        beams = self._beams(request.options)
        if len(histories) > 1 and len(histories) * beams > MAX_BEAMS:
            raise BadRequest(
                "inputs",
                f"expected at most {max(1, MAX_BEAMS // beams)} histories with these parameters, got {len(histories)}; "
                "send them in parts, or lower top_k",
            )

    def _beams(self, options: Mapping[str, Any]) -> int:
        """Return the beams of one history; time and memory of a call grow with them."""
        searches = [part for part in (self.recommender, *self.recommender.parts.values()) if hasattr(part, "num_beams")]
        beams = max(options["top_k"], sum(max(options["top_k"], part.num_beams) for part in searches))
        if options["exact"] and searches:
            beams = max(beams, BUDGET)
        for name in ("cold_share", "diversify", "explain"):
            beams *= 2 if options[name] else 1
        return beams


def _refusal(check: Callable[[], None]) -> RequestError | None:
    """Return why a check refuses a request; None where it passes."""
    try:
        check()
    except BadRequest as error:
        return error
    except Exception:
        logger.exception("a request failed")
        return FailedRequest()
    return None


def _answer(entry: Any) -> dict[str, Any]:
    """Return an entry of a list as JSON; numbers that JSON does not have are None."""
    answer = {"item_id": entry.item_id, "score": float(entry.score)}
    answer |= {name: entry.fields[name] for name in ANSWER_FIELDS if name in entry.fields}
    return answer | {name: None for name in ("score", "bound") if not math.isfinite(answer.get(name, 0.0))}


def _shown(items: Sequence[str]) -> str:
    names = ", ".join(repr(item[:40]) for item in items[:3])
    return f"{names}{' …' if len(items) > 3 else ''} {'is' if len(items) == 1 else 'are'}"
