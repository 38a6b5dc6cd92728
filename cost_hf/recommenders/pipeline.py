"""`pipeline("generative-recommendation")`: histories of item ids to ranked items.

Its model is a recommender directory or Hub id. `GenerativeRecommender` is imported with the first pipeline.
"""

from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

TASK = "generative-recommendation"


class RecommendationPipeline(Pipeline):
    """Recommends items for histories; options are those of `Recommender.recommend`.

    A history is a list of item ids, oldest first. One history gives a list of `{"item_id", "score", "title"}`, best
    first (`title` where the catalog holds titles); a list of histories gives a list of such lists.
    """

    _load_tokenizer = False

    def __init__(self, model: Any, **kwargs: Any):
        from cost_hf.recommenders.generative import GenerativeRecommender

        super().__init__(model=model, **kwargs)
        commit = getattr(model.config, "_commit_hash", None)
        self.recommender = GenerativeRecommender.read(model.config._name_or_path, revision=commit, generator=self.model)

    def __call__(self, histories: Any, **options: Any) -> Any:
        """Return ranked items; errors are those of `Recommender.recommend`."""
        answers = self.recommender.recommend(histories, **self._preprocess_params | options)
        is_batch = bool(answers) and isinstance(answers[0], list)
        return [list(map(_as_dict, answer)) for answer in answers] if is_batch else list(map(_as_dict, answers))

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return options, {}, {}

    def preprocess(self, inputs: Any, **options: Any) -> Any:
        """Pass on; the recommender lays out its prompts itself."""
        return inputs

    def _forward(self, inputs: Any, **options: Any) -> Any:
        return inputs

    def postprocess(self, outputs: Any, **options: Any) -> Any:
        """Pass on."""
        return outputs


def _as_dict(answer: Any) -> dict[str, Any]:
    title = answer.fields.get("title")
    named = {} if title is None else {"title": title}
    return {"item_id": answer.item_id, "score": answer.score, **named}


if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
    PIPELINE_REGISTRY.register_pipeline(
        TASK, pipeline_class=RecommendationPipeline, pt_model=(AutoModelForCausalLM, AutoModelForSeq2SeqLM), type="text"
    )
