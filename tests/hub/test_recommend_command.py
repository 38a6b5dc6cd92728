"""`cost-hf recommend`: a list for a history, with titles, scores and explanations."""

import pytest

from cost_hf.cli import main
from cost_hf.recommenders.base import Recommendation, Recommender
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.recommenders.toys import TOY_IDS, TOY_TEXTS, toy_recommender, with_columns

WORDS = ["listed", "raised", "semantic", "shares", "text"]  # first of every line of an explanation


@pytest.fixture
def saved(tmp_path):
    toy_fusion().save_pretrained(tmp_path)
    return tmp_path


def test_a_list_has_ids_scores_and_titles(saved, capsys):
    assert main(["recommend", str(saved), "item003", "item007", "--top-k", "4"]) == 0

    lines = capsys.readouterr().out.splitlines()
    expected = toy_fusion().recommend(["item003", "item007"], top_k=4)
    assert [line.split()[1] for line in lines] == [answer.item_id for answer in expected]
    for place, (line, answer) in enumerate(zip(lines, expected, strict=True), start=1):
        title = TOY_TEXTS[TOY_IDS.index(answer.item_id)]
        assert line.split() == [str(place), answer.item_id, f"{answer.score:.4f}", *title.split()]


def test_every_item_is_explained_in_the_lines_below_it(saved, capsys):
    assert main(["recommend", str(saved), "item003", "--top-k", "2", "--explain"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.strip().split()[0] for line in lines] == ["1", *WORDS, "2", *WORDS]


def test_an_exact_list_says_what_is_proved(tmp_path, capsys, monkeypatch):
    toy_recommender().save_pretrained(tmp_path)

    assert main(["recommend", str(tmp_path), "item003", "--top-k", "2", "--exact"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "proved: no other item has a higher score"

    found = [Recommendation("item001", -1.0, {"is_exact": True})]
    found.append(Recommendation("item002", -2.0, {"is_exact": False, "bound": -1.5}))
    monkeypatch.setattr(Recommender, "recommend", lambda self, history, **options: found)
    assert main(["recommend", str(tmp_path), "item003", "--exact"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "proved: the first 1 of 2; an item that is not listed may score up to -1.5000"


def test_filters_and_limits_of_values_are_mappings_as_yaml(tmp_path, capsys):
    system = with_columns(toy_recommender())
    system.save_pretrained(tmp_path)

    def listed(*options: str) -> list[str]:
        assert main(["recommend", str(tmp_path), "item003", "--top-k", "5", *options]) == 0
        return [line.split()[1] for line in capsys.readouterr().out.splitlines()]

    where = {"price": (None, 20), "brand": ["Brisa", "Corva"]}
    assert listed("--where", "{price: {max: 20}, brand: [Brisa, Corva]}") == [
        answer.item_id for answer in system.recommend(["item003"], top_k=5, where=where)
    ]
    assert listed("--diversify", "{brand: 1}") == [
        answer.item_id for answer in system.recommend(["item003"], top_k=5, diversify={"brand": 1})
    ]
    for option, value, message in (
        ("--where", "{colour: red}", "where names the column 'colour'"),
        ("--where", "price", "expected names with values as YAML"),
        ("--diversify", "[brand]", "expected names with values as YAML"),
        ("--where", "{price: {min: 900}}", "no item of 20 items fulfils where price of at least 900"),
    ):
        assert main(["recommend", str(tmp_path), "item003", option, value]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_what_a_recommender_can_not_do_is_an_error(saved, tmp_path, capsys):
    assert main(["recommend", str(saved), "nowhere"]) == 2
    assert "1 of 1 item ids are not in the catalog of 20 items: 'nowhere'" in capsys.readouterr().err
    toy_counting("markov").save_pretrained(tmp_path / "counts")
    assert main(["recommend", str(tmp_path / "counts"), "item003", "--explain"]) == 2
    assert "can't explain its answers" in capsys.readouterr().err
    assert main(["recommend", str(saved), "item003", "--exact"]) == 2
    assert "call recommend without exact" in capsys.readouterr().err


def test_titles_never_reach_the_terminal_raw(tmp_path, capsys):
    system = toy_counting("markov")
    system.update_items(TOY_IDS, titles=["\x1b[31mred\nline"] * len(TOY_IDS))
    system.save_pretrained(tmp_path)

    assert main(["recommend", str(tmp_path), "item003", "--top-k", "1"]) == 0

    printed = capsys.readouterr().out
    assert "\x1b" not in printed and r"\x1b[31mred\nline" in printed
