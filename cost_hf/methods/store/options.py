"""Recipe sections of method `store`, readable without torch."""

from dataclasses import dataclass, field
from importlib.util import find_spec

from cost_hf.generators.options import NEXT_ITEM, AdapterOptions, GeneratorOptions, TaskOptions
from cost_hf.methods.generative.method import GenerativeOptions
from cost_hf.quantizers.base import CodesOptions

KIND = "text_slots"
BACKBONE = "HuggingFaceTB/SmolLM2-135M-Instruct"
RANK = 8
# token -> token, token -> text and text -> token; text -> slots, the fourth task, is the quantizer's
TASKS = {NEXT_ITEM: 1.0, "item_to_title": 1.0, "text_to_item": 1.0}


def text_slots() -> CodesOptions:
    """Return codes that the language model of the generator makes of texts."""
    return CodesOptions.of(KIND, backbone=BACKBONE, adapter_rank=RANK)


def language_model() -> GeneratorOptions:
    """Return the language model, whose SID rows start from the centroids of the slots."""
    return GeneratorOptions(backbone=BACKBONE, prompt="continuation", embedding_init="mapped", overflow="drop_oldest")


def lora() -> AdapterOptions:
    """Return the adapter that recommends."""
    return AdapterOptions(r=RANK)


def tasks() -> TaskOptions:
    """Return the mixture of tasks."""
    return TaskOptions(weights=dict(TASKS))


@dataclass
class StartOptions:
    """Recipe section `start`: what the recommending adapter starts from."""

    from_tokenizer: bool = field(
        default=True,
        metadata={"help": "start from the adapter that makes codes of texts; false starts LoRA from nothing"},
    )

    def validate(self) -> None:
        """Raise ValueError for values that no run can have; there are none."""


@dataclass
class StoreOptions(GenerativeOptions):
    """Sections of a STORE-style recipe."""

    codes: CodesOptions = field(default_factory=text_slots)
    generator: GeneratorOptions = field(default_factory=language_model)
    adapter: AdapterOptions = field(default_factory=lora)
    tasks: TaskOptions = field(default_factory=tasks)
    start: StartOptions = field(default_factory=StartOptions)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        if find_spec("rouge_score") is None:
            raise ValueError(
                "method store evaluates texts by ROUGE, and rouge-score is not installed; pip install cost-hf[titles]"
            )
        if self.catalog.reference is not None or self.codes.kind != KIND:
            raise ValueError(
                f"method store recommends by codes that its own language model makes of texts, got codes.kind="
                f"{self.codes.kind!r} and catalog.reference={self.catalog.reference!r}; set them to {KIND} and null, "
                "or take method sid_generator"
            )
        generator = self.generator
        made_by = (self.codes.backbone, self.codes.revision)  # type: ignore[attr-defined]
        if generator.kind != "causal" or (generator.backbone, generator.revision) != made_by:
            raise ValueError(
                f"method store has one causal language model for codes and recommendations, got codes.backbone="
                f"{made_by[0]!r} (revision {made_by[1]!r}) and generator.backbone={generator.backbone!r} (revision "
                f"{generator.revision!r}, kind {generator.kind!r}); name the same one"
            )
        if self.adapter.r is None:
            raise ValueError(
                "method store keeps one language model in memory, so its weights must stay and adapter.r must be a "
                "rank, got null; give one like 8, or take method sid_generator"
            )
        if self.start.from_tokenizer:
            self._check_start()

    def _check_start(self) -> None:
        """Raise for adapters of different shapes."""
        own = (self.adapter.r, self.adapter.alpha or 2 * self.adapter.r, self.adapter.target_modules)  # type: ignore[operator]
        made = (self.codes.adapter_rank, 2 * self.codes.adapter_rank, self.codes.adapter_modules)  # type: ignore[attr-defined]
        if own != made:
            raise ValueError(
                "start.from_tokenizer takes over the adapter of the codes, so both need the same rank, scale and "
                f"layers, got adapter.r, alpha and target_modules {own!r} and, of codes, {made!r}; make them equal, or "
                "set start.from_tokenizer to false"
            )
