"""A dense method: a user is the mean of the embeddings of the history."""

from dataclasses import dataclass, field

from cost_hf.generators.options import RankingTrainingOptions
from cost_hf.methods.base import DataFacts, Estimate, Fitted, Method, MethodOptions, Workspace, register


@dataclass
class MeanModelOptions:
    """Recipe section `model`."""

    hidden_size: int = field(default=16, metadata={"help": "width of the embeddings"})

    def validate(self) -> None:
        """Raise ValueError for a width that no model has."""
        if self.hidden_size < 1:
            raise ValueError(f"model.hidden_size must be at least 1, got {self.hidden_size!r}")


@dataclass
class MeanOptions(MethodOptions):
    """Sections of a recipe of this method."""

    model: MeanModelOptions = field(default_factory=MeanModelOptions)
    training: RankingTrainingOptions = field(default_factory=RankingTrainingOptions)


@register
class MeanOfHistory(Method[MeanOptions]):
    """Next items by the mean of the embeddings of the history."""

    name = "made_up_mean"
    family = "dense"
    summary = "mean of item embeddings"
    options_class = MeanOptions
    auto_models = "made_up_package.modeling"
    recommenders = {"made_up_mean": "made_up_package.recommender"}  # noqa: RUF012

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Train on the training part."""
        from made_up_package.recommender import fit

        return Fitted(fit(self.options, workspace, seed=seed))

    def estimate(self, facts: DataFacts) -> Estimate:
        """Return what little it costs."""
        return Estimate({"training": 1.0, "evaluation": 1.0}, memory_mb=1.0)
