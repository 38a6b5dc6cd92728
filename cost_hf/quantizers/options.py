"""Recipe section `codes`: which assigner, and how it is trained; readable without torch."""

from dataclasses import dataclass, field

from cost_hf.semantic_ids.sizes import level_size_tuple, whole_number

# those of `configuration_cost`, whose import takes seconds; a test compares them
INPUT_NORMS = ("none", "l2", "standardize")
REDUCTIONS = ("sum", "mean")
RESIDUAL_UPDATES = ("detached", "straight_through")
MIN_SINKHORN_EPSILON = 0.003
WEIGHT_FIELDS = ("contrastive_weight", "reconstruction_weight", "codebook_weight", "commitment_weight")
MAX_WIDTH = 1 << 20
MAX_LAYERS = 256
MAX_CODES = 1 << 22  # of one level
MAX_BATCH = 1 << 20  # items
# (contrastive, reconstruction, codebook, commitment); the last two are those of both papers
PRESETS = {
    "cost": (0.1, 0.0, 1.0, 0.25),
    "rqvae": (0.0, 1.0, 1.0, 0.25),
    "both": (0.1, 1.0, 1.0, 0.25),
    "letter": (0.0, 1.0, 1.0, 0.25),
}
EXTRA_FIELDS = ("collaborative_weight", "diversity_weight")  # of terms that only training knows
# published: 0.02 and 1e-4, with means over dimensions and levels and vectors as a language model gives them. On unit
# vectors means leave reconstruction no weight beside the collaborative term (neighbour overlap falls from .43 to .22
# on 3,686 items), so that `letter` keeps the sums of the other kinds and a weight that fits them
EXTRA_PRESETS = {"letter": (0.2, 1e-4)}
LETTER_EPSILON = 0.003
LEAST = {
    "latent_dim": 1,
    "epochs": 1,
    "batch_size": 2,
    "save_epochs": 1,
    "pca_dim": 1,
    "diversity_clusters": 1,
    "collaborative_weight": 0,
    "diversity_weight": 0,
    "sinkhorn_epsilon": 0,
}
UNTRAINED = ("rkmeans", "category", "random")
INITIALIZATIONS = ("full", "first_batch", "none")


@dataclass
class CodesOptions:
    """Recipe section `codes`."""

    kind: str | None = field(
        default="cost",
        metadata={"help": "cost, rqvae, both, letter, rkmeans, category or random; null with weights of your own"},
    )
    level_sizes: list[int] = field(default_factory=lambda: [64, 64, 64], metadata={"help": "codes per level"})
    latent_dim: int = field(default=96, metadata={"help": "width of latents and code vectors"})
    hidden_sizes: list[int] = field(
        default_factory=lambda: [512, 256, 128], metadata={"help": "encoder widths, mirrored in the decoder"}
    )
    share_codebooks: bool = field(default=False, metadata={"help": "one codebook for all levels"})
    input_norm: str = field(default="l2", metadata={"help": "none, l2 or standardize"})
    temperature: float = field(default=0.1, metadata={"help": "of the contrastive softmax"})
    contrastive_weight: float | None = field(default=None, metadata={"help": "alpha; null takes the kind's"})
    reconstruction_weight: float | None = field(
        default=None, metadata={"help": "of the squared error; null takes the kind's"}
    )
    codebook_weight: float | None = field(
        default=None, metadata={"help": "of codes to residuals; null takes the kind's (1)"}
    )
    commitment_weight: float | None = field(
        default=None, metadata={"help": "beta, of residuals to codes; null takes the kind's (0.25)"}
    )
    collaborative_weight: float | None = field(
        default=None, metadata={"help": "of finding an item's collaborative vector; null takes the kind's"}
    )
    diversity_weight: float | None = field(
        default=None, metadata={"help": "of spreading the codes of a cluster; null takes the kind's"}
    )
    diversity_clusters: int = field(
        default=10, metadata={"help": "clusters of a level's codes for diversity; at most half as many as codes"}
    )
    sinkhorn_epsilon: float | None = field(
        default=None, metadata={"help": "balance of the last level in training; 0: nearest, null takes the kind's"}
    )
    reduction: str = field(default="sum", metadata={"help": "sum or mean over the dimensions of squared errors"})
    residual_update: str = field(
        default="detached", metadata={"help": "detached, or straight_through as in published code"}
    )
    epochs: int = field(default=100, metadata={"help": "passes over the items"})
    batch_size: int = field(
        default=1024, metadata={"help": "items per step over all processes; the others of a batch are negatives"}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "of AdamW, constant"})
    weight_decay: float = field(default=0.0, metadata={"help": "of AdamW"})
    initialization: str = field(
        default="full", metadata={"help": "k-means++ on all items (full), on one batch (first_batch), or none"}
    )
    revival: bool = field(default=True, metadata={"help": "move unused codes to residuals at the end of an epoch"})
    revival_share: float = field(default=0.7, metadata={"help": "share of the epochs with revival"})
    pca_dim: int | None = field(default=32, metadata={"help": "dimensions before rkmeans; null keeps all"})
    category_column: str = field(
        default="categories", metadata={"help": "comma-separated column from broad to narrow, for category codes"}
    )
    min_perplexity_share: float = field(
        default=0.1, metadata={"help": "perplexity, as a share of the codes, below which training stops as collapsed"}
    )
    save_epochs: int = field(default=10, metadata={"help": "epochs between checkpoints"})
    seed: int | None = field(default=None, metadata={"help": "of the codes; null takes the run's"})

    @property
    def is_trained(self) -> bool:
        """True where a `Trainer` run fits the codes."""
        return self.kind not in UNTRAINED

    @property
    def weights(self) -> dict[str, float]:
        """Loss weights by their name in `CostConfig`; those of the preset, or the given ones where kind is null."""
        given = {name: getattr(self, name) for name in WEIGHT_FIELDS}
        if self.kind is None:
            defaults = {"codebook_weight": 1.0, "commitment_weight": 0.25}
            return {name: float(defaults.get(name, 0.0) if value is None else value) for name, value in given.items()}
        preset = PRESETS.get(self.kind, (0.0, 0.0, 1.0, 0.0))  # residual k-means: the quantization error alone
        return dict(zip(WEIGHT_FIELDS, preset, strict=True))

    @property
    def extra_weights(self) -> dict[str, float]:
        """Weights of the terms that the model does not know, as `weights`."""
        if self.kind is None:
            return {name: float(getattr(self, name) or 0.0) for name in EXTRA_FIELDS}
        return dict(zip(EXTRA_FIELDS, EXTRA_PRESETS.get(self.kind, (0.0, 0.0)), strict=True))

    @property
    def balance(self) -> float:
        """Sinkhorn epsilon of the last level in training, 0 for none."""
        if self.sinkhorn_epsilon is not None:
            return self.sinkhorn_epsilon
        return LETTER_EPSILON if self.kind == "letter" else 0.0

    @property
    def needs_collaborative(self) -> bool:
        """True where `fit_codes` needs a collaborative vector of every item."""
        return self.extra_weights["collaborative_weight"] > 0

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        self._check_kind()
        choices = {
            "input_norm": INPUT_NORMS,
            "reduction": REDUCTIONS,
            "residual_update": RESIDUAL_UPDATES,
            "initialization": INITIALIZATIONS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"codes.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        self._check_numbers()
        if min(self.level_sizes, default=0) < 2:
            raise ValueError(
                f"codes.level_sizes needs one or more levels of at least 2 codes, got {self.level_sizes!r}"
            )
        level_size_tuple(self.level_sizes, "codes.level_sizes", most=MAX_CODES)
        if len(self.hidden_sizes) > MAX_LAYERS:
            raise ValueError(f"codes.hidden_sizes must hold at most {MAX_LAYERS} widths, got {len(self.hidden_sizes)}")
        widths = {"latent_dim": self.latent_dim}
        widths |= {f"hidden_sizes[{layer}]": width for layer, width in enumerate(self.hidden_sizes)}
        for name, width in widths.items():
            whole_number(width, f"codes.{name}", most=MAX_WIDTH)
        whole_number(self.batch_size, "codes.batch_size", most=MAX_BATCH)
        if self.initialization == "first_batch" and self.is_trained and self.batch_size < max(self.level_sizes):
            raise ValueError(
                f"codes.initialization='first_batch' needs a batch of at least {max(self.level_sizes)} items, one per "
                f"code, got codes.batch_size={self.batch_size!r}; raise it or set codes.initialization to full"
            )

    def _check_numbers(self) -> None:
        for name, bound in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ValueError(f"codes.{name} must be at least {bound}, got {value!r}")
        for name in ("revival_share", "min_perplexity_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"codes.{name} is a share between 0 and 1, got {getattr(self, name)!r}")
        if 0 < self.balance < MIN_SINKHORN_EPSILON:
            raise ValueError(
                f"codes.sinkhorn_epsilon must be 0 (nearest codes) or at least {MIN_SINKHORN_EPSILON}, got "
                f"{self.balance!r}"
            )

    def _check_kind(self) -> None:
        if self.kind is not None and self.kind not in (*PRESETS, *UNTRAINED):
            raise ValueError(
                f"codes.kind must be one of {', '.join((*PRESETS, *UNTRAINED))} or null, got {self.kind!r}"
            )
        weights = (*WEIGHT_FIELDS, *EXTRA_FIELDS)
        given = {name: getattr(self, name) for name in weights if getattr(self, name) is not None}
        if self.kind is not None and given:
            named = ", ".join(f"codes.{name}={value!r}" for name, value in given.items())
            raise ValueError(
                f"codes.kind={self.kind!r} is a preset of the weights, got {named} as well; leave the weights out, or "
                "set codes.kind to null and give the weights"
            )
        if self.kind is None and not (self.contrastive_weight or self.reconstruction_weight):
            raise ValueError(
                "codes.kind null needs codes.contrastive_weight or codes.reconstruction_weight above 0, got "
                f"{self.contrastive_weight!r} and {self.reconstruction_weight!r}; nothing else ties codes to items"
            )
