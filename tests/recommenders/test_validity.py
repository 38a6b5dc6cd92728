from cost_hf.recommenders.validity import invalid_shares
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommenders.toys import recommender_of, toy_backbone, toy_catalog, toy_causal, toy_histories, toy_t5


def test_an_untrained_generator_is_kept_in_the_catalog_by_the_trie_alone():
    catalog = toy_catalog(20, (6, 6))
    vocabulary = SidVocabulary.for_catalog(catalog)

    for generator in (toy_causal(vocabulary), toy_t5(vocabulary)):
        recommender = recommender_of(toy_backbone(generator, vocabulary), catalog, num_beams=5)
        shares = invalid_shares(recommender, toy_histories(catalog, 40), num_beams=5)

        assert shares["invalid"] == 0.0
        assert shares["invalid_unconstrained"] > 0.5
