"""Recipe sections of TTDSR, readable without torch."""

from dataclasses import dataclass, field
from typing import ClassVar

from cost_hf.generators.options import NEXT_ITEM, AdapterOptions, GeneratorOptions, TaskOptions
from cost_hf.methods.generative.method import GenerativeOptions
from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.residual import TrainedOptions
from cost_hf.semantic_ids.options import MAX_TOKENS, level_size_tuple, whole_number

BACKBONE = "HuggingFaceTB/SmolLM2-135M-Instruct"
USERS_OF_ITEM = "users_of_item"
USER_TO_TEXT = "user_to_text"
TEXT_TO_USER = "text_to_user"
USER_TASKS = (USERS_OF_ITEM, USER_TO_TEXT, TEXT_TO_USER)
MAX_COUNT = 1 << 20


def language_model() -> GeneratorOptions:
    """Return a small pretrained causal model that continues a list of items."""
    return GeneratorOptions(backbone=BACKBONE, prompt="continuation")


def lora() -> AdapterOptions:
    """Return LoRA of the rank of the released code."""
    return AdapterOptions(r=8)


def rqvae() -> CodesOptions:
    """Return the kind of both towers in the released code.

    States of a language model share a large mean, on which unit vectors collapse.
    """
    return CodesOptions.of("rqvae", input_norm="standardize")


@dataclass
class IndexOptions:
    """Recipe section `index`: how the codes of items and users follow the language model."""

    refresh_steps: int | None = field(
        default=200,
        metadata={"help": "training steps between two refreshes of the index; null keeps the first one (static)"},
    )
    freeze_share: float = field(
        default=0.5, metadata={"help": "share of the training steps after which the index is frozen, 0 to 1"}
    )
    tower_epochs: int = field(
        default=10,
        metadata={"help": "epochs that a refresh trains the quantizers on, from their weights; 0 keeps these"},
    )
    max_text_tokens: int = field(default=64, metadata={"help": "tokens of a text that the language model embeds"})
    batch_size: int = field(default=32, metadata={"help": "texts embedded at a time"})

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        if self.refresh_steps is not None:
            whole_number(self.refresh_steps, "index.refresh_steps", most=MAX_COUNT, remedy="null never refreshes")
        if not 0 <= self.freeze_share <= 1:
            raise ValueError(f"index.freeze_share must be a share from 0 to 1, got {self.freeze_share!r}")
        whole_number(self.tower_epochs, "index.tower_epochs", least=0, most=MAX_COUNT)
        whole_number(self.max_text_tokens, "index.max_text_tokens", most=MAX_COUNT)
        whole_number(self.batch_size, "index.batch_size", most=MAX_COUNT)


@dataclass
class UserOptions:
    """Recipe section `users`: semantic IDs of users, by a tower of their own with the settings of `codes`."""

    level_sizes: list[int] = field(default_factory=lambda: [64, 64, 64], metadata={"help": "codes per level"})
    in_prompt: bool = field(
        default=True, metadata={"help": "begin the prompts of next items with the semantic ID of the user"}
    )
    text_column: str | None = field(
        default=None,
        metadata={"help": "column of the interactions with a text about the user; null takes titles of the history"},
    )
    max_titles: int = field(
        default=10, metadata={"help": "titles of first training clicks in the text of a user, half of them at most"}
    )

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        level_size_tuple(self.level_sizes, "users.level_sizes", most=MAX_TOKENS)
        if min(self.level_sizes) < 2:
            raise ValueError(f"users.level_sizes needs levels of at least 2 codes, got {self.level_sizes!r}")
        whole_number(self.max_titles, "users.max_titles", most=MAX_COUNT)


@dataclass
class AlignmentOptions:
    """Recipe section `alignment`: states of a semantic ID are pulled to those of its text."""

    infonce_weight: float = field(
        default=1.0, metadata={"help": "of the contrastive term between semantic IDs and texts of a step"}
    )
    mse_weight: float = field(default=1.0, metadata={"help": "of the squared error between the two states"})
    temperature: float = field(default=0.1, metadata={"help": "of the contrastive softmax over cosines"})
    entities: int = field(default=8, metadata={"help": "items, and as many users, that are drawn for a batch"})

    @property
    def is_used(self) -> bool:
        """Whether a term has a weight."""
        return self.infonce_weight > 0 or self.mse_weight > 0

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        for name in ("infonce_weight", "mse_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"alignment.{name} must be 0 or more, got {getattr(self, name)!r}")
        if self.temperature <= 0:
            raise ValueError(f"alignment.temperature must be above 0, got {self.temperature!r}")
        whole_number(self.entities, "alignment.entities", least=2, most=MAX_COUNT)


@dataclass
class TtdsrTaskOptions(TaskOptions):
    """Recipe section `tasks`, with those of users."""

    own_tasks: ClassVar[tuple[str, ...]] = USER_TASKS

    weights: dict[str, float] = field(
        default_factory=lambda: {NEXT_ITEM: 1.0, "text_to_item": 1.0, **dict.fromkeys(USER_TASKS, 0.5)},
        metadata={
            "help": "passes over a task's examples per epoch: next_item, text_to_item, item_to_title, titles_to_item, "
            "history_to_title, and of users: users_of_item (the next user of an item), user_to_text, text_to_user"
        },
    )

    @property
    def user_tasks(self) -> list[str]:
        """Tasks of users with a weight."""
        return [name for name in USER_TASKS if self.weights.get(name)]


@dataclass
class TtdsrOptions(GenerativeOptions):
    """Sections of a TTDSR recipe."""

    codes: CodesOptions = field(default_factory=rqvae)
    generator: GeneratorOptions = field(default_factory=language_model)
    adapter: AdapterOptions = field(default_factory=lora)
    tasks: TtdsrTaskOptions = field(default_factory=TtdsrTaskOptions)
    index: IndexOptions = field(default_factory=IndexOptions)
    users: UserOptions = field(default_factory=UserOptions)
    alignment: AlignmentOptions = field(default_factory=AlignmentOptions)

    @property
    def has_users(self) -> bool:
        """Whether users have semantic IDs."""
        return self.users.in_prompt or bool(self.tasks.user_tasks)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        generator = self.generator
        if generator.backbone is None or generator.kind != "causal" or generator.num_user_tokens:
            raise ValueError(
                "ttdsr embeds texts by a pretrained causal language model, whose users have semantic IDs and no "
                f"hashed tokens, got generator.backbone={generator.backbone!r}, generator.kind={generator.kind!r}, "
                f"generator.num_user_tokens={generator.num_user_tokens!r}; name a backbone, and set the others to "
                "causal and 0"
            )
        if self.catalog.reference is not None:
            raise ValueError(
                f"ttdsr makes the codes itself, got catalog.reference={self.catalog.reference!r}; set it to null"
            )
        codes = self.codes
        reads_more = codes.needs_collaborative_vectors or codes.needs_coclicks or codes.needs_popularity
        if not isinstance(codes, TrainedOptions) or reads_more or codes.needs_items:
            raise ValueError(
                f"the towers of ttdsr are residual quantizers trained on text vectors alone, got codes.kind="
                f"{codes.kind!r}; take rqvae, cost or cost_rqvae, with codes.positives self"
            )
        if self.index.refresh_steps is not None and (self.training.substitute_share or self.training.teacher):
            raise ValueError(
                "training.substitute_share and training.teacher read the codes of the beginning, and index."
                f"refresh_steps={self.index.refresh_steps!r} changes them; set one of them to 0 or null"
            )
