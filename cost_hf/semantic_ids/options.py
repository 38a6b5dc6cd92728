"""Recipe section `catalog`."""

from dataclasses import dataclass, field

from cost_hf.semantic_ids.sizes import MAX_TOKENS, whole_number

COLLISION_POLICIES = ("append", "reassign", "sinkhorn", "none")
# how rows of SID tokens in a backbone may start; here, where torch is not needed to read them
EMBEDDING_INITS = ("normal", "mean", "text", "codebook")
ANCHOR = " item"  # words that text and codebook start from


@dataclass
class CatalogOptions:
    """How codes become semantic IDs of items."""

    collisions: str = field(
        default="append",
        metadata={
            "help": "append (one more level), reassign (next-nearest code), sinkhorn (other last codes where there are "
            "any, items share a SID otherwise), none (items share a SID)"
        },
    )
    append_size: int = field(
        default=256, metadata={"help": "codes of the appended level, fixed for the catalog's life"}
    )
    reference: str | None = field(
        default=None,
        metadata={"help": "published identifiers (parquet: item_id, sid) in place of learned codes; for comparison"},
    )

    def validate(self) -> None:
        """Raise ValueError for a policy that does not exist or a level without codes."""
        if self.collisions not in COLLISION_POLICIES:
            raise ValueError(
                f"catalog.collisions must be one of {', '.join(COLLISION_POLICIES)}, got {self.collisions!r}"
            )
        whole_number(self.append_size, "catalog.append_size", most=MAX_TOKENS)
