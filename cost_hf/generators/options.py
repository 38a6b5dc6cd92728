"""Recipe sections `generator`, `adapter`, `tasks` and `training`, readable without torch.

Sizes of generators from scratch: `resid` is the T5 of ReSID (arXiv 2602.02338), `letter` the generator of LETTER's
released code (d_model 128), `deep` the same
with six layers (the T5 of arXiv 2411.18814), `tiger` the one whose parameter count matches TIGER's text (d_model 384;
arXiv 2305.05065 section 4 gives both 128 and 13 M, which do not fit together).
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from cost_hf.semantic_ids.options import ANCHOR, EMBEDDING_INITS, MAX_HISTORY, MAX_RANKED, MAX_TOKENS, whole_number

CAUSAL_SIZES: dict[str, dict[str, int]] = {
    # gated layers have three matrices: two thirds of 4·d keeps the parameter count of a plain layer
    "tiny": {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 168, "num_attention_heads": 2},
    "small": {"num_hidden_layers": 3, "hidden_size": 128, "intermediate_size": 344, "num_attention_heads": 4},
    "medium": {"num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 688, "num_attention_heads": 4},
    "large": {"num_hidden_layers": 8, "hidden_size": 512, "intermediate_size": 1368, "num_attention_heads": 8},
}
SEQ2SEQ_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"num_layers": 2, "num_decoder_layers": 2, "d_model": 64, "d_ff": 256, "num_heads": 4, "d_kv": 16},
    "small": {"num_layers": 2, "num_decoder_layers": 2, "d_model": 96, "d_ff": 384, "num_heads": 4, "d_kv": 32},
    "resid": {"num_layers": 4, "num_decoder_layers": 4, "d_model": 128, "d_ff": 512, "num_heads": 4, "d_kv": 32},
    "letter": {"num_layers": 4, "num_decoder_layers": 4, "d_model": 128, "d_ff": 1024, "num_heads": 6, "d_kv": 64},
    "deep": {"num_layers": 6, "num_decoder_layers": 6, "d_model": 128, "d_ff": 1024, "num_heads": 6, "d_kv": 64},
    "tiger": {"num_layers": 4, "num_decoder_layers": 4, "d_model": 384, "d_ff": 1024, "num_heads": 6, "d_kv": 64},
}
PROMPTS = ("bare", "continuation", "instruction")
OVERFLOWS = ("error", "drop_oldest")
SCRATCH_DROPOUT = 0.2
TEXT_TASKS = ("text_to_item", "item_to_title", "titles_to_item", "history_to_title")
TITLE_TASKS = ("item_to_title", "history_to_title")
NEXT_ITEM = "next_item"
MAX_PASSES = 100  # over users or catalog in an epoch
MAX_FOLDS = 100  # of users, each of which the teacher is fitted without
MAX_COUNT = 1 << 20  # of epochs, of the rows of a batch, and of other counts


@dataclass
class GeneratorOptions:
    """Recipe section `generator`."""

    kind: str = field(default="causal", metadata={"help": "causal (decoder-only) or seq2seq (T5)"})
    size: str = field(
        default="small",
        metadata={
            "help": "from scratch: causal tiny|small (CPU) or medium|large (5 M and 26 M weights, for a GPU), seq2seq "
            "tiny|small (CPU), letter, resid, deep or tiger; unused with a backbone"
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
            "help": "bare (SIDs alone), or with text for a backbone: continuation (causal; the answer continues the "
            "list, every next item of a user is learned in one pass) or instruction (the history in a question)"
        },
    )
    embedding_init: str | None = field(
        default=None,
        metadata={
            "help": "initial embeddings of SID tokens in a backbone: text (that of an anchor text), codebook (near "
            "codes start near each other), mapped (code vectors of codes that this backbone made of texts), mean or "
            "normal; null is text for causal, normal for seq2seq"
        },
    )
    embedding_init_text: str = field(default=ANCHOR, metadata={"help": "anchor text of text, codebook and mapped"})
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
                f"generator.prompt={self.prompt!r} and embedding_init={self.embedding_init!r} need a "
                "generator.backbone: a model from scratch knows no words; leave them out, or name a backbone"
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


@dataclass
class AdapterOptions:
    """Recipe section `adapter`: LoRA on a backbone; without `r` all weights are trained."""

    r: int | None = field(default=None, metadata={"help": "rank of LoRA; null trains all weights of the generator"})
    alpha: float | None = field(default=None, metadata={"help": "scale: the update counts alpha / r; null is 2 r"})
    dropout: float = field(default=0.0, metadata={"help": "dropout of what enters the adapters"})
    target_modules: list[str] | str | None = field(
        default=None, metadata={"help": "names of layers, all-linear, or null for peft's choice by model type"}
    )

    def validate(self) -> None:
        """Raise ValueError for values no adapter can have."""
        if self.r is not None and self.r < 1:
            raise ValueError(f"adapter.r must be at least 1, or null to train all weights, got {self.r!r}")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError(f"adapter.alpha must be above 0, got {self.alpha!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"adapter.dropout must be a share from 0 to below 1, got {self.dropout!r}")
        if self.r is None and (self.alpha, self.dropout, self.target_modules) != (None, 0.0, None):
            raise ValueError("adapter.alpha, dropout and target_modules need adapter.r, got null; give a rank like 8")


@dataclass
class TaskOptions:
    """Recipe section `tasks`: what a pretrained generator learns beside next items, and from which templates.

    Attributes:
        own_tasks: tasks of a method beside those of every generator, which the method makes itself.
    """

    own_tasks: ClassVar[tuple[str, ...]] = ()

    weights: dict[str, float] = field(
        default_factory=lambda: {NEXT_ITEM: 1.0},
        metadata={
            "help": "passes over a task's examples per epoch: next_item, text_to_item, item_to_title, titles_to_item, "
            "history_to_title; all but next_item need a backbone"
        },
    )
    templates: str | None = field(
        default=None, metadata={"help": "directory of template files (<task>.yaml) in place of the package's"}
    )
    paraphrases: bool = field(
        default=True, metadata={"help": "draw one of a task's templates for every example; false takes the first"}
    )
    max_titles: int = field(default=10, metadata={"help": "most recent titles in a question"})
    max_title_tokens: int = field(default=24, metadata={"help": "tokens of a title"})
    max_text_tokens: int = field(default=96, metadata={"help": "tokens of an item's text"})

    def validate(self) -> None:
        """Raise ValueError for a task that does not exist or a number no run can have."""
        known = (NEXT_ITEM, *TEXT_TASKS, *self.own_tasks)
        unknown = [name for name in self.weights if name not in known]
        if unknown:
            raise ValueError(f"tasks.weights takes the tasks {', '.join(known)}, got {unknown[0]!r}")
        wrong = {name: weight for name, weight in self.weights.items() if not 0 <= weight < float("inf")}
        if wrong or self.weights.get(NEXT_ITEM, 0) <= 0:
            raise ValueError(
                f"tasks.weights must be 0 or more, and above 0 for {NEXT_ITEM}, got {wrong or self.weights}; correct it"
            )
        for name in ("max_titles", "max_title_tokens", "max_text_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"tasks.{name} must be at least 1, got {getattr(self, name)!r}")

    @property
    def title_tasks(self) -> list[str]:
        """Tasks with a weight whose answer is a title."""
        return [name for name in self.text_tasks if name in TITLE_TASKS]

    @property
    def text_tasks(self) -> list[str]:
        """Tasks with a weight whose question or answer has text."""
        return [name for name in TEXT_TASKS if self.weights.get(name)]


@dataclass
class RankingTrainingOptions:
    """Fields that every recipe section of a trained model has."""

    section: ClassVar[str] = "training"

    epochs: int = field(default=17, metadata={"help": "passes over the training set"})
    batch_size: int = field(default=64, metadata={"help": "rows per device and step"})
    gradient_accumulation: int = field(default=1, metadata={"help": "steps summed before an update"})
    learning_rate: float = field(default=2e-3, metadata={"help": "peak learning rate"})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW weight decay"})
    beta2: float = field(default=0.98, metadata={"help": "AdamW second-moment decay"})
    warmup_steps: int = field(default=100, metadata={"help": "steps of linear warm-up"})
    scheduler: str = field(default="linear", metadata={"help": "learning-rate schedule, a transformers SchedulerType"})
    gradient_clip: float = field(default=1.0, metadata={"help": "largest gradient norm"})
    precision: str = field(
        default="auto",
        metadata={
            "help": "fp32, bf16 (fp32, with a warning, on x86 CPUs without AVX-512) or auto (bf16 on CUDA, fp32 on CPU)"
        },
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "recompute activations in the backward pass: less memory, more time"}
    )
    validate_every: int = field(default=1, metadata={"help": "epochs between validations and checkpoints"})
    validation_users: int = field(default=512, metadata={"help": "size of the fixed seeded validation sample"})
    patience: int | None = field(
        default=10, metadata={"help": "validations without a better NDCG@10 before stopping; null never stops"}
    )
    report_to: list[str] = field(
        default_factory=list,
        metadata={
            "help": "experiment trackers that get the training log, such as trackio, tensorboard or wandb",
            "changes_nothing": True,
        },
    )

    def content(self) -> dict[str, Any]:
        """Return all fields that the weights depend on, for digests; trackers, for example, are left out."""
        unused = {entry.name for entry in fields(self) if entry.metadata.get("changes_nothing")}
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        for name in ("epochs", "batch_size", "gradient_accumulation", "validate_every", "validation_users"):
            whole_number(getattr(self, name), f"{self.section}.{name}", most=MAX_COUNT)
        if self.patience is not None and self.patience < 1:
            raise ValueError(
                f"{self.section}.patience must be at least 1, or null to never stop, got {self.patience!r}"
            )
        if self.learning_rate <= 0:
            raise ValueError(f"{self.section}.learning_rate must be above 0, got {self.learning_rate!r}")
        for name in ("weight_decay", "warmup_steps", "gradient_clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{self.section}.{name} must not be negative, got {getattr(self, name)!r}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"{self.section}.precision must be auto, fp32 or bf16, got {self.precision!r}")
        if self.scheduler != "linear":  # transformers knows the others, and takes seconds to import
            from transformers import SchedulerType

            names = [kind.value for kind in SchedulerType]
            if self.scheduler not in names:
                raise ValueError(f"{self.section}.scheduler must be one of {', '.join(names)}, got {self.scheduler!r}")


@dataclass
class TrainingOptions(RankingTrainingOptions):
    """Recipe section `training` (of the generator)."""

    embedding_learning_rate_multiplier: float = field(
        default=1.0,
        metadata={
            "help": "factor on the learning rate of the shared embedding (with LoRA: of the SID rows); 15 speeds up a "
            "short T5 from scratch"
        },
    )
    first_items: bool = field(
        default=False, metadata={"help": "seq2seq: learn a user's first item too, from an empty history"}
    )
    validation_beams: int = field(default=10, metadata={"help": "beams in validation"})
    temperature: float = field(
        default=1.0,
        metadata={
            "help": "divides the logits in the loss; LETTER's ranking-guided loss, arXiv 2405.07314, CE(logits / tau)"
        },
    )
    substitute_share: float = field(
        default=0.0,
        metadata={
            "help": "share of the items of a training example, 0 to 1, that others with the same prefix replace; where "
            "all positions are learned, substitutes are labels, too"
        },
    )
    substitute_prefix: int = field(default=1, metadata={"help": "first codes that an item and its substitute share"})
    teacher: str | None = field(
        default=None,
        metadata={
            "help": "method, variant, recipe (.yaml too) or run directory whose method lists items for the training "
            "positions, as targets beside the next items; null for none"
        },
    )
    teacher_weight: float = field(
        default=0.5, metadata={"help": "share of the teacher's targets in the loss, 0 to 1; 0 is training without one"}
    )
    teacher_temperature: float = field(
        default=1.0, metadata={"help": "divides the standardised scores of a list in the softmax of its items"}
    )
    teacher_ends: float = field(
        default=1.0,
        metadata={
            "help": "passes over the users in an epoch, with the whole training sequence as a history and a next item "
            "from the teacher's list; 0 for none"
        },
    )
    teacher_catalog: float = field(
        default=1.0,
        metadata={
            "help": "passes over the catalog in an epoch, with every item as a history of its own and a next item from "
            "the teacher's list; 0 for none"
        },
    )
    teacher_items: int = field(default=20, metadata={"help": "length of the teacher's lists"})
    teacher_folds: int = field(
        default=5, metadata={"help": "groups of users; the teacher of a group is fitted to all others"}
    )

    @property
    def has_teacher(self) -> bool:
        """Whether the loss has targets of a teacher."""
        return self.teacher is not None and self.teacher_weight > 0

    def content(self) -> dict[str, Any]:
        """Return all fields that the weights depend on; of the teacher, whose lists have a digest, what uses them."""
        known_by_lists = {"teacher", "teacher_items", "teacher_folds"}
        return {
            name: value
            for name, value in super().content().items()
            if not name.startswith("teacher") or (self.has_teacher and name not in known_by_lists)
        }

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        super().validate()
        for name in ("embedding_learning_rate_multiplier", "temperature", "teacher_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"training.{name} must be above 0, got {getattr(self, name)!r}")
        if not 0 <= self.substitute_share <= 1:
            raise ValueError(f"training.substitute_share must be a share from 0 to 1, got {self.substitute_share!r}")
        whole_number(self.substitute_prefix, "training.substitute_prefix", most=MAX_COUNT)
        if self.substitute_share and self.has_teacher:
            raise ValueError(
                f"training.substitute_share must be 0 with training.teacher, whose lists are those of the true items, "
                f"got {self.substitute_share!r}"
            )
        if not 0 <= self.teacher_weight <= 1:
            raise ValueError(f"training.teacher_weight must be a share from 0 to 1, got {self.teacher_weight!r}")
        for name in ("teacher_ends", "teacher_catalog"):
            if not 0 <= getattr(self, name) <= MAX_PASSES:
                raise ValueError(f"training.{name} must be 0 to {MAX_PASSES} passes, got {getattr(self, name)!r}")
        whole_number(self.teacher_items, "training.teacher_items", most=MAX_RANKED)
        whole_number(self.teacher_folds, "training.teacher_folds", least=2, most=MAX_FOLDS)
        if not 10 <= self.validation_beams <= MAX_RANKED:
            raise ValueError(
                f"training.validation_beams must be at least 10 for NDCG@10 and at most {MAX_RANKED}, got "
                f"{self.validation_beams!r}"
            )
