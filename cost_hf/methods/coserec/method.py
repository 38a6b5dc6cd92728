"""CoSeRec (arXiv 2108.06479) as a method: SASRec with a contrastive loss over augmented sequences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.files import file_digest
from cost_hf.methods.base import MethodOptions, Variant, WarmStart, Workspace, register
from cost_hf.methods.coserec.options import CoSeRecOptions
from cost_hf.methods.sasrec.method import PUBLISHED, SequenceMethod

if TYPE_CHECKING:
    from cost_hf.methods.base import Fitted
    from cost_hf.methods.dense_training import DenseTraining
    from cost_hf.recommenders.dense import DenseRecommender


@register
class CoSeRec(SequenceMethod[CoSeRecOptions]):
    """Contrastive self-supervised sequential recommendation with robust augmentation."""

    name = "coserec"
    summary = "CoSeRec"
    options_class: ClassVar[type[MethodOptions]] = CoSeRecOptions
    recommenders: ClassVar[Mapping[str, str]] = {"coserec": "cost_hf.methods.coserec.recommender"}

    def untrained(self, *, num_items: int, text_dim: int | None, seed: int) -> Any:
        """Return a SASRec with fresh weights."""
        from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
        from cost_hf.methods.sasrec.training import build_model

        fields = {"seen_score": 0.0} if self.options.augmentation.official_quirks else {}
        return build_model(SasRecModel, self.options.model, num_items=num_items, text_dim=text_dim, seed=seed, **fields)

    @property
    def views(self) -> int:
        """Two of every sequence, where they count."""
        return 2 if self.options.augmentation.weight else 0

    def training(self, workspace: Workspace, *, seed: int) -> DenseTraining:
        """Return how the model is trained on the training part."""
        from cost_hf.methods.coserec.recommender import CoSeRecRecommender
        from cost_hf.methods.coserec.training import trainer_of
        from cost_hf.methods.sasrec.stages import sequence_training

        data = workspace.data
        return sequence_training(
            self,
            CoSeRecRecommender,
            workspace,
            seed=seed,
            inputs=self.input_parts(),
            make_trainer=trainer_of(self.options.augmentation, data.split, data.tables.items["item_id"].tolist()),
        )

    def warm_start(self, recommender: DenseRecommender, start: WarmStart) -> Fitted:
        """Train the model on, with views of today's sequences."""
        from cost_hf.methods.coserec.training import trainer_of
        from cost_hf.methods.sasrec.stages import warm_start

        make_trainer = trainer_of(self.options.augmentation, start.split, recommender.catalog.item_ids)
        return warm_start(self.options, recommender, start, make_trainer)

    def input_parts(self) -> list[Any]:
        """Return the content of the file of identifiers, for digests."""
        path = self.options.augmentation.identifiers
        return [] if path is None else [file_digest(path)]

    def check_paths(self) -> None:
        """Raise FileNotFoundError for a file of identifiers that does not exist."""
        path = self.options.augmentation.identifiers
        if path is not None and not Path(path).is_file():
            raise FileNotFoundError(f"augmentation.identifiers {path!r} is no file; check the path")

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield the row over the tuned SASRec, and the one of the paper."""
        yield Variant(cls.name, cls.name, {}, cls.summary)
        paper = PUBLISHED | {"augmentation.warm_up_epochs": 160}
        yield Variant("coserec_published", cls.name, paper, f"{cls.summary} over the SASRec of its paper")
