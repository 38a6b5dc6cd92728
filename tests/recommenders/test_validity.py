import torch

from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.validity import invalid_shares
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommenders.toys import toy_catalog, toy_causal, toy_histories, toy_t5


def test_an_untrained_generator_is_kept_in_the_catalog_by_the_trie_alone():
    catalog = toy_catalog(20, (6, 6))
    vocabulary = SidVocabulary.for_catalog(catalog)

    for generator in (toy_causal(vocabulary), toy_t5(vocabulary)):
        recommender = GenerativeRecommender(
            generator, catalog, vocabulary, popularity=torch.ones(20).numpy(), max_history=5, num_beams=5
        )
        shares = invalid_shares(recommender, toy_histories(catalog, 40), num_beams=5)

        assert shares["invalid"] == 0.0
        assert shares["invalid_unconstrained"] > 0.5
