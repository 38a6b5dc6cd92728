"""The OpenAPI description: bodies, answers and statuses of every path, with examples of the catalog that answers."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from cost_hf.serving.access import ITEMS_PATH, ITEMS_TOKEN, OPEN_PATHS, TOKEN, Tokens
from cost_hf.serving.examples import request_examples
from cost_hf.serving.live import LiveRecommender
from cost_hf.serving.replies import CATALOG_HEADER, MODEL_HEADER
from cost_hf.serving.schemas import (
    EncodeAnswer,
    EncodeBody,
    ErrorAnswer,
    ItemsBody,
    RecommendAnswer,
    RecommendBody,
    SimilarAnswer,
    SimilarBody,
    StatusAnswer,
)

BODIES: Mapping[str, type[BaseModel]] = {
    "/recommend": RecommendBody,
    "/similar": SimilarBody,
    "/encode": EncodeBody,
    ITEMS_PATH: ItemsBody,
}
ANSWERS: Mapping[str, type[BaseModel]] = {
    "/recommend": RecommendAnswer,
    "/similar": SimilarAnswer,
    "/encode": EncodeAnswer,
    "/health": StatusAnswer,
    "/ready": StatusAnswer,
}
ERRORS = {
    400: "The request can't be answered as it is; the field is named.",
    401: "The token of the server is missing.",
    413: "The body is too large.",
    503: "Too many requests wait, or the server stops; `Retry-After` says when to try again.",
    504: "It took too long.",
}
ITEMS_ERRORS = {
    403: f"Changes are off: the server was started without `{ITEMS_TOKEN}`.",
    409: "The change could not be saved, and nothing has changed.",
}
ABOUT = f"""Every answer has the headers `X-Request-ID` (that of the request, or a new one), `{MODEL_HEADER}` and
`{CATALOG_HEADER}`: what answered. Errors are `{{"error": {{"field", "message"}}}}`."""
BEARER = "bearer"


def endpoint_description(path: str) -> dict[str, Any]:
    """Return what FastAPI is told about an endpoint; its body is described by `ApiDescription`."""
    responses: dict[int | str, dict[str, Any]] = {}
    if path in BODIES:
        errors = ERRORS | (ITEMS_ERRORS if path == ITEMS_PATH else {})
        responses = {status: {"model": ErrorAnswer, "description": errors[status]} for status in sorted(errors)}
    if path in ANSWERS:
        responses[200] = {"model": ANSWERS[path]}
    if path == "/ready":
        responses[503] = {"model": StatusAnswer, "description": "The server stops."}
    tag = "Catalog" if path == ITEMS_PATH else "Requests" if path in BODIES else "Operation"
    return {"responses": responses, "name": path.removeprefix("/"), "response_model": None, "tags": [tag]}


class ApiDescription:
    """Makes the OpenAPI description of an application.

    Args:
        app: the application.
        live: whose catalog the examples are of.
        tokens: that requests need.
    """

    def __init__(self, app: FastAPI, live: LiveRecommender, tokens: Tokens):
        self._app = app
        self._live = live
        self._tokens = tokens

    def __call__(self) -> dict[str, Any]:
        """Return the description."""
        app = self._app
        found = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=ABOUT, routes=app.routes
        )
        kinds = [(model, "validation") for model in BODIES.values()]
        _, definitions = models_json_schema(kinds, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
        components = found.setdefault("components", {})
        components["schemas"] = components.get("schemas", {}) | definitions["$defs"]
        # the description needs no token, so where requests need one it shows nothing of the catalog
        recommender = self._live.served.recommender if self._tokens.all_requests is None else None
        for path, examples in request_examples(recommender).items():
            schema = {"$ref": f"#/components/schemas/{BODIES[path].__name__}"}
            content = {"application/json": {"schema": schema, "examples": examples}}
            found["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
        self._describe_tokens(found)
        return found

    def _describe_tokens(self, found: dict[str, Any]) -> None:
        scheme = {"type": "http", "scheme": "bearer", "description": f"`{TOKEN}`, for {ITEMS_PATH} `{ITEMS_TOKEN}`."}
        found["components"]["securitySchemes"] = {BEARER: scheme}
        for path, operations in found["paths"].items():
            is_needed = path == ITEMS_PATH or (self._tokens.all_requests is not None and path not in OPEN_PATHS)
            if is_needed:
                for operation in operations.values():
                    operation["security"] = [{BEARER: []}]
