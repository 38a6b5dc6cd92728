"""Recipe section `generator`: sizes from scratch, and what a pretrained backbone may be asked for.

Sizes: `letter` is the generator of LETTER's released code (d_model 128), `tiger` the one whose parameter count matches
TIGER's text (d_model 384; arXiv 2305.05065 section 4 gives both 128 and 13 M, which do not fit together).
"""

from dataclasses import dataclass, field

from cost_hf.semantic_ids.options import ANCHOR, EMBEDDING_INITS
from cost_hf.semantic_ids.sizes import MAX_HISTORY, MAX_TOKENS, whole_number

CAUSAL_SIZES: dict[str, dict[str, int]] = {
    # gated layers hold three matrices: two thirds of 4·d keeps the parameter count of a plain layer
    "tiny": {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 168, "num_attention_heads": 2},
    "small": {"num_hidden_layers": 3, "hidden_size": 128, "intermediate_size": 344, "num_attention_heads": 4},
    "medium": {"num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 688, "num_attention_heads": 4},
    "large": {"num_hidden_layers": 8, "hidden_size": 512, "intermediate_size": 1368, "num_attention_heads": 8},
}
SEQ2SEQ_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"num_layers": 2, "num_decoder_layers": 2, "d_model": 64, "d_ff": 256, "num_heads": 4, "d_kv": 16},
    "small": {"num_layers": 2, "num_decoder_layers": 2, "d_model": 96, "d_ff": 384, "num_heads": 4, "d_kv": 32},
    "letter": {"num_layers": 4, "num_decoder_layers": 4, "d_model": 128, "d_ff": 1024, "num_heads": 6, "d_kv": 64},
    "tiger": {"num_layers": 4, "num_decoder_layers": 4, "d_model": 384, "d_ff": 1024, "num_heads": 6, "d_kv": 64},
}
PROMPTS = ("bare", "continuation", "instruction")
OVERFLOWS = ("error", "drop_oldest")
SCRATCH_DROPOUT = 0.2


@dataclass
class GeneratorOptions:
    """Recipe section `generator`."""

    kind: str = field(default="causal", metadata={"help": "causal (decoder-only) or seq2seq (T5)"})
    size: str = field(
        default="small",
        metadata={
            "help": "from scratch: causal tiny|small (CPU) or medium|large (5 M and 26 M weights, for a GPU), seq2seq "
            "tiny|small (CPU), letter or tiger; unused with a backbone"
        },
    )
    backbone: str | None = field(
        default=None,
        metadata={"help": "pretrained causal or seq2seq model, Hub id or directory; null trains from scratch"},
    )
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of a backbone on the Hub"})
    prompt: str = field(
        default="bare",
        metadata={
            "help": "bare (SIDs alone), or in words for a backbone: continuation (causal; the answer goes on with the "
            "list, every next item of a user is learned in one pass) or instruction (the history in a question)"
        },
    )
    embedding_init: str | None = field(
        default=None,
        metadata={
            "help": "rows of SID tokens in a backbone: text (an anchor's row), codebook (near codes near it), mean or "
            "normal; null is text for causal, normal for seq2seq"
        },
    )
    embedding_init_text: str = field(default=ANCHOR, metadata={"help": "words that text and codebook start from"})
    max_history: int = field(default=20, metadata={"help": "most recent items in the prompt"})
    overflow: str = field(
        default="error",
        metadata={"help": "prompts longer than a backbone's context: error, or drop_oldest items"},
    )
    dropout: float | None = field(
        default=None,
        metadata={"help": f"dropout in training; null is {SCRATCH_DROPOUT} from scratch, and a backbone's own"},
    )
    num_user_tokens: int = field(default=0, metadata={"help": "hashed user tokens; 0 for none (TIGER: 2000)"})

    def validate(self) -> None:
        """Raise ValueError for a combination that names no generator."""
        sizes = {"causal": CAUSAL_SIZES, "seq2seq": SEQ2SEQ_SIZES}.get(self.kind)
        if sizes is None:
            raise ValueError(f"generator.kind must be causal or seq2seq, got {self.kind!r}")
        for name, known in (("prompt", PROMPTS), ("overflow", OVERFLOWS), ("embedding_init", (None, *EMBEDDING_INITS))):
            if getattr(self, name) not in known:
                choices = ", ".join("null" if choice is None else choice for choice in known)
                raise ValueError(f"generator.{name} must be one of {choices}, got {getattr(self, name)!r}")
        if self.backbone is None:
            self._check_scratch(sizes)
        else:
            self._check_backbone()
        whole_number(self.max_history, "generator.max_history", most=MAX_HISTORY)
        whole_number(self.num_user_tokens, "generator.num_user_tokens", least=0, most=MAX_TOKENS)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(
                f"generator.dropout must be a share from 0 to below 1, got {self.dropout!r}; "
                f"0 drops nothing, null is {SCRATCH_DROPOUT} from scratch and keeps a backbone's own"
            )

    @property
    def scratch_dropout(self) -> float:
        """Dropout of a model from scratch."""
        return SCRATCH_DROPOUT if self.dropout is None else self.dropout

    def _check_scratch(self, sizes: dict[str, dict[str, int]]) -> None:
        if self.size not in sizes:
            raise ValueError(f"generator.size of kind {self.kind} must be one of {sorted(sizes)}, got {self.size!r}")
        if self.prompt != "bare" or self.embedding_init is not None:
            raise ValueError(
                f"generator.prompt={self.prompt!r} and embedding_init={self.embedding_init!r} need a generator.backbone: a model "
                "from scratch knows no words; leave them out, or name a backbone"
            )

    def _check_backbone(self) -> None:
        if self.kind == "seq2seq" and self.prompt == "continuation":
            raise ValueError(
                "generator.prompt 'continuation' is for generator.kind causal, got seq2seq, whose answer is a text of "
                "its own; use instruction or bare"
            )
        if self.kind == "causal" and self.dropout is not None:
            raise ValueError(
                f"generator.dropout of a pretrained causal model must be null, which keeps its own, got "
                f"{self.dropout!r}; adapter.dropout regularises LoRA"
            )
        if self.num_user_tokens and self.prompt != "bare":
            raise ValueError(
                f"generator.num_user_tokens needs generator.prompt 'bare', got {self.prompt!r}; set it to 0"
            )
