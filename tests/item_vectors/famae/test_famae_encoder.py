import pytest

from cost_hf.data.errors import DataError
from tests.item_vectors.famae.famae_toys import shop_items, untrained_recommender


def test_the_text_of_another_item_is_refused_and_nothing_changes():
    recommender = untrained_recommender(shop_items())
    texts = recommender.encoder.render(shop_items().head(2).assign(item_id=["new", "newer"]))
    before = recommender.catalog

    with pytest.raises(DataError, match="the text of item 'newer' names item 'new'"):
        recommender.add_items(["newer", "new"], texts)
    with pytest.raises(DataError, match="the text of item 'i1' names item 'new'"):
        recommender.update_items(["i1"], texts[:1])

    assert recommender.catalog is before
    assert recommender.add_items(["new", "newer"], texts).item_ids == ("new", "newer")
