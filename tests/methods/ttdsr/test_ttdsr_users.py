"""Users: their texts, their tasks, and prompts that begin with their semantic IDs."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cost_hf.generators.collation import SequenceDataset
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.generators.tasks import NextItemTask
from cost_hf.generators.templates import PromptEncoder
from cost_hf.methods.ttdsr.options import USER_TASKS, TtdsrTaskOptions, UserOptions
from cost_hf.methods.ttdsr.prompts import NO_ITEMS, tokens_of_users, with_user
from cost_hf.methods.ttdsr.user_tasks import UserFields, build_user_tasks, next_users, user_templates
from cost_hf.methods.ttdsr.user_texts import profile_items, user_texts
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.generators.backbone_toys import byte_bpe

TRAIN = [np.array([0, 1]), np.array([1, 0]), np.array([1])]
CODES = np.array([[0, 1], [2, 0], [1, 1]])


def data_of(items: dict, interactions: dict | None = None, train: list[np.ndarray] = TRAIN, cold: tuple[int, ...] = ()):
    users = np.array(["ann", "bob", "cy"], object)
    cold_items = np.array(cold, dtype=np.int64)
    split = SimpleNamespace(train=train, train_user_ids=users, train_times=None, cold_items=cold_items)
    tables = SimpleNamespace(items=pd.DataFrame(items), interactions=pd.DataFrame(interactions or {"user_id": []}))
    return SimpleNamespace(tables=tables, split=split)


def encoder_of(sizes=(4, 4), users=(3, 2)) -> PromptEncoder:
    tokenizer = byte_bpe()
    items = SidVocabulary(sizes).extend(tokenizer, None)
    return PromptEncoder(
        tokenizer, items, is_causal=True, users=SidVocabulary(users, namespace="u").extend(tokenizer, None)
    )


def test_the_text_of_a_user_is_titles_of_the_first_half_of_training():
    train = [np.array([0, 1, 1, 0]), np.array([1, 0, 0]), np.array([1])]
    data = data_of({"item_id": ["a", "b"], "title": ["Lamp", "Desk"]}, train=train)
    untitled = data_of({"item_id": ["a", "b"], "title": ["Lamp", None]}, train=train)

    assert user_texts(data, UserOptions()) == ["Lamp; Desk", "Desk", ""]
    assert user_texts(data, UserOptions(max_titles=1)) == ["Lamp", "Desk", ""]
    assert user_texts(untitled, UserOptions()) == ["Lamp", "", ""]
    assert [rows.tolist() for rows in profile_items(train, UserOptions(text_column="taste"))] == [[0], [1], [1]]


def test_the_text_of_a_user_is_the_cell_of_the_first_click_that_is_not_held_out():
    taste = ["red", "of the test", None, "of a held-out item", "blue"]
    clicks = {"user_id": ["ann", "ann", "bob", "cy", "cy"], "item_row": [0, 1, 1, 2, 1], "taste": taste}
    data = data_of({"item_id": ["a", "b", "c"]}, clicks, cold=(2,))

    assert user_texts(data, UserOptions(text_column="taste")) == ["red", "", "blue"]
    with pytest.raises(ValueError, match=r"column of the interactions, got 'tast', found user_id, item_row, taste"):
        user_texts(data, UserOptions(text_column="tast"))
    with pytest.raises(ValueError, match="name a column of the interactions"):
        user_texts(data, UserOptions())


def test_next_users_follow_the_clicks_of_an_item():
    split = data_of({}).split

    assert [(list(before), item, user) for before, item, user in next_users(split, 3, max_users=5)] == [
        ([0], 0, 1),
        ([0], 1, 1),
        ([0, 1], 1, 2),
    ]
    timed = SimpleNamespace(**vars(split) | {"train_times": np.array([9, 8, 1, 2, 7])})
    assert [(list(before), item, user) for before, item, user in next_users(timed, 2, max_users=1)] == [
        ([1], 0, 0),
        ([1], 1, 2),
        ([2], 1, 0),
    ]


@pytest.mark.parametrize("task", USER_TASKS)
def test_examples_of_users_have_their_tokens_and_lengths_bound_them(task):
    encoder = encoder_of()
    users = tokens_of_users(CODES, encoder.users)[:, 1:].numpy()
    items = encoder.vocabulary.encode(torch.tensor([[0, 1], [3, 2]])).numpy()
    fields = UserFields(encoder, items, users, ["red lamp", "", "blue chair"], 5)
    options = TtdsrTaskOptions(weights={"next_item": 1.0, task: 1.0})

    built = build_user_tasks(
        [task], options, fields, data_of({}).split, max_users=3, context=None, overflow="error", seed=0
    )[task]

    around = max(encoder.constant_tokens(template) for template in user_templates(task, options))
    assert len(built) == (2 if "text" in task else 3)
    for number in range(2 * len(built)):
        example = built[number]
        assert len(example.source) + len(example.target) <= built.lengths[number % len(built)] + around
        if task != "user_to_text":
            assert example.source[-1] == encoder.users.begin_id
            assert example.target.tolist() in users.tolist()
        else:
            assert example.target[-1] == encoder.vocabulary.eos_id


def test_examples_read_the_codes_of_the_moment():
    encoder = encoder_of()
    users = tokens_of_users(CODES, encoder.users)[:, 1:].numpy()
    fields = UserFields(encoder, np.zeros((1, 2), int), users, ["red", "blue", "green"], 5)
    options = TtdsrTaskOptions(weights={"next_item": 1.0, "text_to_user": 1.0}, paraphrases=False)
    task = build_user_tasks(
        ["text_to_user"], options, fields, data_of({}).split, max_users=3, context=None, overflow="error", seed=0
    )["text_to_user"]
    before = task[0].target.tolist()

    users[0] = users[1]

    assert before != task[0].target.tolist() == users[1].tolist()


def test_a_template_of_a_user_task_is_checked(tmp_path):
    (tmp_path / "text_to_user.yaml").write_text('- {user: "{text}", assistant: "{item}"}\n')

    with pytest.raises(ValueError, match=r"must have the fields \['user'\]"):
        user_templates("text_to_user", TtdsrTaskOptions(templates=str(tmp_path)))


def test_prompts_show_known_users_and_leave_unknown_ones_out():
    catalog = Catalog.from_codes(["a", "b"], [[0, 1], [1, 0]], level_sizes=(4, 4), collisions="none")
    encoder = encoder_of()
    plain = PromptBuilder.for_catalog(
        catalog, encoder.vocabulary, is_causal=True, max_history=3, layout=encoder.bare_layout()
    )
    tokens = tokens_of_users(CODES, encoder.users)
    shown = with_user(plain, ["ann", "bob", "cy"], tokens)
    histories = torch.tensor([[0, 1], [1, -1]])

    ids, mask = shown.inputs(histories, user_ids=["bob", "nobody"])
    expected, _ = plain.inputs(histories[:1])
    unknown, _ = plain.inputs(histories[1:])

    begin = plain.layout.before.index(encoder.vocabulary.begin_id)
    row = expected[0].tolist()
    assert ids[0].tolist() == [*row[:begin], *tokens[1].tolist(), *row[begin:]]
    assert ids[1][mask[1] == 1].tolist() == unknown[0].tolist()
    for user, extra in (("bob", tokens.shape[1]), ("nobody", 0)):
        example = shown.sequence(user, np.array([0, 1]), 0)
        assert len(example.tokens) == len(plain.sequence(None, np.array([0, 1]), 0).tokens) + extra
        assert len(example.item_rows) == len(example.source) + len(example.target)


def test_behind_a_user_nothing_is_learned_that_the_users_text_names():
    catalog = Catalog.from_codes(list("abcd"), [[0, 1], [1, 0], [2, 2], [3, 3]], level_sizes=(4, 4), collisions="none")
    encoder = encoder_of()
    plain = PromptBuilder.for_catalog(
        catalog, encoder.vocabulary, is_causal=True, max_history=4, layout=encoder.bare_layout()
    )
    profiles = [np.array([2, 0]), NO_ITEMS, np.array([3, 1, 0, 2])]
    shown = with_user(plain, ["ann", "bob", "cy"], tokens_of_users(CODES, encoder.users), profiles)
    rows = np.array([2, 0, 3, 2])

    first = shown.sequence("ann", rows, 0)
    assert first.weights.tolist() == [
        0,
        0,
        0,
        0,
        1,
        1,
        1,
        1,
    ]  # a later click on an item of the profile was in the prompt
    assert shown.sequence("ann", rows, 1).weights.tolist() == [0, 0, 1, 1, 1, 1]
    assert shown.sequence("ann", rows, 2).weights is None and shown.sequence("bob", rows, 0).weights is None
    assert shown.sequence("cy", rows[:3], 0).tokens.tolist() == plain.sequence(None, rows[:3], 0).tokens.tolist()
    assert shown.sequence("ann", np.array([1, 0, 3]), 0).weights.tolist() == [1, 1, 0, 0, 1, 1]
    assert first.tokens.tolist() != plain.sequence(None, rows, 0).tokens.tolist()
    without = plain.pair(None, rows[:1], 0)
    assert shown.pair("ann", rows[:1], 0).tokens.tolist() == without.tokens.tolist()
    assert shown.pair("ann", rows[:1], 1).tokens.tolist() != plain.pair(None, rows[:1], 1).tokens.tolist()
    assert shown.pair("ann", rows[:2], 0).tokens.tolist() != plain.pair(None, rows[:2], 0).tokens.tolist()


def test_weights_of_rows_and_those_of_prompts_multiply():
    catalog = Catalog.from_codes(list("abc"), [[0, 1], [1, 0], [2, 2]], level_sizes=(4, 4), collisions="none")
    encoder = encoder_of()
    plain = PromptBuilder.for_catalog(
        catalog, encoder.vocabulary, is_causal=True, max_history=4, layout=encoder.bare_layout()
    )
    shown = with_user(plain, ["ann", "bob", "cy"], tokens_of_users(CODES, encoder.users), [np.array([0])] * 3)
    rows = SequenceDataset(
        [np.array([0, 1, 2])], ["ann"], max_items=4, weights=[np.array([0.5, 0.5, 0.25], dtype=np.float32)]
    )

    example = NextItemTask(rows, [shown])[0]

    assert example.weights.tolist() == [0, 0, 0.5, 0.5, 0.25, 0.25]


def test_user_options_are_checked():
    with pytest.raises(ValueError, match="at least 2 codes"):
        UserOptions(level_sizes=[8, 1]).validate()
    with pytest.raises(ValueError, match=r"users.max_titles must be at least 1"):
        dataclasses.replace(UserOptions(), max_titles=0).validate()
