"""The recipes of published data sets take from raw files what their papers describe."""

import json

import pytest

from cost_hf.data import render_texts
from cost_hf.data.prepare import prepare_data
from cost_hf.experiments.recipe import Recipe


def prepare(name, directory):
    recipe = Recipe.load(name, {"data.path": str(directory)})
    recipe.validate()
    data = prepare_data(recipe.data, template=recipe.vectors.template)
    return data, render_texts(data.tables.items, recipe.vectors.template)


def lengths(data):
    return data.tables.interactions["user_id"].value_counts().to_dict()


def test_mind_keeps_users_of_15_clicks_or_more_and_their_latest_70(tmp_path):
    news = [f"N{number}\tsports\tgolf\tRound {number}\tText\thttps://x\t[]\t[]" for number in range(100)]
    users = {"few": range(14), "enough": range(15), "many": range(80)}
    behaviors = []
    for number, (user, clicks) in enumerate(users.items()):
        history = " ".join(f"N{click}" for click in clicks[:-1])
        behaviors.append(f"{number}\t{user}\t11/12/2019 9:00:00 AM\t{history}\tN{clicks[-1]}-1 N99-0")
    (tmp_path / "news.tsv").write_text("\n".join(news))
    (tmp_path / "behaviors.tsv").write_text("\n".join(behaviors))

    data, texts = prepare("cost_mind", tmp_path)

    assert lengths(data) == {"enough": 15, "many": 70}
    assert data.tables.num_items == 80
    assert texts[7] == "sports. golf. Round 7"
    assert data.split.test.items.tolist() == [14, 79]


def test_office_keeps_users_of_5_reviews_or_more_and_cores_no_item(tmp_path):
    users = {"few": range(4), "enough": range(5, 10), "many": range(10, 70)}
    reviews = [
        {"reviewerID": user, "asin": f"B{item}", "overall": 5.0, "unixReviewTime": 1252713600 + item}
        for user, items in users.items()
        for item in items
    ]
    metadata = [{"asin": f"B{item}", "title": f"Pen {item}", "categories": [["Office", "Pens"]]} for item in range(70)]
    metadata.append({"asin": "B70", "salesRank": {"Office": 1}})
    (tmp_path / "reviews_Office.json").write_text("\n".join(map(json.dumps, reviews)))
    (tmp_path / "meta_Office.json").write_text("\n".join(map(repr, metadata)))

    data, texts = prepare("cost_office", tmp_path)

    assert lengths(data) == {"enough": 5, "many": 50}
    assert data.tables.num_items == 55
    assert texts[0] == "Pen 5. Office, Pens"


@pytest.mark.parametrize("name", ["cost_mind", "cost_office"])
def test_recipe_survives_a_round_trip(name, tmp_path):
    recipe = Recipe.load(name)
    recipe.save(tmp_path / "copy.yaml")

    assert Recipe.load(str(tmp_path / "copy.yaml")).to_dict() == recipe.to_dict()
