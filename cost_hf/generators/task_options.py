"""Recipe section `tasks`: what a pretrained generator learns."""

from dataclasses import dataclass, field

TEXT_TASKS = ("text_to_item", "item_to_title", "titles_to_item", "history_to_title")
TITLE_TASKS = ("item_to_title", "history_to_title")
NEXT_ITEM = "next_item"


@dataclass
class TaskOptions:
    """Recipe section `tasks`: what a pretrained generator learns, and in which words."""

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
        known = (NEXT_ITEM, *TEXT_TASKS)
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
    def titles(self) -> list[str]:
        """Tasks with a weight whose answer is a title."""
        return [name for name in self.with_words if name in TITLE_TASKS]

    @property
    def with_words(self) -> list[str]:
        """Tasks with a weight that need words."""
        return [name for name in TEXT_TASKS if self.weights.get(name)]
