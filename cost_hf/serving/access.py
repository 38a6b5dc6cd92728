"""Who may ask what: bearer tokens, which come from the environment alone and are never logged."""

import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

TOKEN = "COST_HF_TOKEN"  # of all requests, where it is set
ITEMS_TOKEN = "COST_HF_ITEMS_TOKEN"  # of /items, which is off without it
ITEMS_PATH = "/items"
# what orchestrators ask without a token, and the description of the API, which names no item where a token is needed
OPEN_PATHS = frozenset({"/health", "/ready", "/docs", "/openapi.json"})
OPEN_PREFIX = "/static-offline-docs/"
VALID_TOKEN = re.compile(r"[!-~]+")  # visible ASCII: what a header can hold


class Access(Enum):
    """What a request may do."""

    ALLOWED = "allowed"
    NO_TOKEN = "no token"
    OFF = "off"


@dataclass(frozen=True)
class Tokens:
    """The tokens of a server.

    Attributes:
        all_requests: of every path but those of health; None where none is needed.
        items: of `/items`; None where it is off.
    """

    all_requests: str | None = field(default=None, repr=False)
    items: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Tokens":
        """Read both tokens; an empty variable counts as one that is not set.

        Raises:
            ValueError: for a token that no header can hold.
        """
        for name in (TOKEN, ITEMS_TOKEN):
            value = environment.get(name)
            if value and not VALID_TOKEN.fullmatch(value):
                raise ValueError(f"{name} holds spaces or characters that are not ASCII; take another token")
        return cls(environment.get(TOKEN) or None, environment.get(ITEMS_TOKEN) or None)

    def access(self, path: str, authorization: bytes | None) -> Access:
        """Return whether a request with this Authorization header may ask for a path."""
        if path == ITEMS_PATH:
            if self.items is None:
                return Access.OFF
            return Access.ALLOWED if _is_token(self.items, authorization) else Access.NO_TOKEN
        if self.all_requests is None or path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return Access.ALLOWED
        return Access.ALLOWED if _is_token(self.all_requests, authorization) else Access.NO_TOKEN


def _is_token(token: str, authorization: bytes | None) -> bool:
    scheme, _, given = (authorization or b"").partition(b" ")
    # compared in constant time, so that nobody can find the token out byte by byte
    return hmac.compare_digest(given.strip(), token.encode()) and scheme.lower() == b"bearer"
