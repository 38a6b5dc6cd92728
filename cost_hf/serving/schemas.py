"""Bodies and answers as the OpenAPI page shows them.

Requests are checked by `cost_hf.recommenders.requests`, as those of every endpoint are; these classes describe it, and
a test holds them against it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cost_hf.recommenders.requests import MAX_BATCH, MAX_CHANGES, MAX_HISTORY, MAX_TOP_K

ItemId = str | int
History = Annotated[list[ItemId], Field(max_length=MAX_HISTORY)]
Where = dict[str, Any]


class Body(BaseModel):
    """A body without other fields."""

    model_config = ConfigDict(extra="forbid")


class SimilarParameters(Body):
    """Which similar items are wanted."""

    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K, description="Items wanted.")] = 10
    allowed: Annotated[list[ItemId] | None, Field(description="Only these items.")] = None
    denied: Annotated[list[ItemId] | None, Field(description="None of these items.")] = None
    where: Annotated[
        Where | None,
        Field(
            description='Conditions by column: a value, a list of values, or bounds, `{"min": 5, "max": 50}`.',
        ),
    ] = None


class RecommendParameters(SimilarParameters):
    """How a list is made; the defaults suit click logs, which hold items that the catalog does not."""

    exclude_seen: Annotated[bool, Field(description="Leave out the items of the history.")] = True
    diversify: Annotated[
        dict[str, int] | None, Field(description="Most items of a list with the same value of a column.")
    ] = None
    on_unknown: Annotated[Literal["error", "drop"], Field(description="For items that the catalog does not hold.")] = (
        "drop"
    )
    on_empty: Annotated[
        Literal["error", "popularity"], Field(description="For histories without an item of the catalog.")
    ] = "popularity"
    cold_share: Annotated[
        float, Field(ge=0, le=1, description="Share of the first places for items without a click in training.")
    ] = 0.0
    explain: Annotated[bool, Field(description="Say why every item is listed, where the recommender can.")] = False
    exact: Annotated[
        bool, Field(description="Prove that no other item has a higher score, where that is possible.")
    ] = False
    user_ids: Annotated[
        list[ItemId] | None, Field(description="One per history, for generators that were trained with user tokens.")
    ] = None


class RecommendBody(Body):
    """Histories to recommend for."""

    inputs: Annotated[
        History | Annotated[list[History], Field(max_length=MAX_BATCH)],
        Field(description="A history, item ids with the oldest first; or a list of histories."),
    ]
    parameters: RecommendParameters | None = None
    user_id: Annotated[
        ItemId | list[ItemId | None] | None,
        Field(description="Who sees the list, or each of the lists: for the request log alone."),
    ] = None


class SimilarBody(Body):
    """An item to find similar ones for."""

    item_id: ItemId
    parameters: SimilarParameters | None = None


class EncodeBody(Body):
    """Texts or item vectors to encode; one of the two."""

    texts: Annotated[list[str] | None, Field(min_length=1, max_length=MAX_BATCH)] = None
    vectors: Annotated[list[list[float]] | None, Field(min_length=1, max_length=MAX_BATCH)] = None


class ItemsBody(Body):
    """Changes of the catalog, made in this order; at least one."""

    add: Annotated[
        list[dict[str, Any]],
        Field(max_length=MAX_CHANGES, description="New items, with the columns of the item table."),
    ] = []
    update: Annotated[
        list[dict[str, Any]],
        Field(max_length=MAX_CHANGES, description="Items of the catalog; columns that an object lacks stay."),
    ] = []
    remove: Annotated[list[ItemId], Field(max_length=MAX_CHANGES, description="Items to recommend no longer.")] = []


class ListedItem(BaseModel):
    """An item of a list."""

    item_id: str
    score: Annotated[float | None, Field(description="Of the model; higher is better.")]
    source: Annotated[str | None, Field(description="What gave the score: the model, or `popularity`.")] = None
    title: str | None = None
    explanation: Annotated[dict[str, Any] | None, Field(description="With `explain`.")] = None
    is_exact: Annotated[bool | None, Field(description="With `exact`: whether this position is proved.")] = None
    bound: Annotated[
        float | None, Field(description="With `exact`: highest score of an item that the search did not return.")
    ] = None


class RecommendAnswer(BaseModel):
    """One list per history, best first."""

    recommendations: list[list[ListedItem]]


class SimilarAnswer(BaseModel):
    """The most similar items, best first."""

    similar: list[ListedItem]


class Codes(BaseModel):
    """Codes of one text or vector."""

    codes: Annotated[list[int], Field(description="One per level of the quantizer.")]
    tokens: Annotated[list[str], Field(description="The tokens that a generator reads and writes for them.")]


class EncodeAnswer(BaseModel):
    """Codes of every text or vector."""

    codes: list[Codes]


class ErrorDetail(BaseModel):
    """What is wrong."""

    field: Annotated[str, Field(description="The part of the request, such as `parameters.top_k`; empty for none.")]
    message: str


class ErrorAnswer(BaseModel):
    """Why a request was not answered."""

    error: ErrorDetail


class StatusAnswer(BaseModel):
    """State of the server."""

    status: Literal["alive", "dead", "ready", "stopping"]
