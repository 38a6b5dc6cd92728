from cost_hf.experiments.recipe import Recipe, row_recipe


def test_a_row_of_a_comparison_chooses_its_sizes_and_adds_no_level():
    base = Recipe.load("cost_default", {"codes.level_sizes": [16, 16], "catalog.collisions": "append"})

    row = row_recipe("gaoq", base)

    assert row.options.codes.level_sizes == [] and row.level_sizes is None
    assert row.append_size is None and row.options.catalog.collisions == "reassign"
    row.validate()


def test_another_row_of_a_recipe_with_chosen_sizes_gets_its_own():
    base = Recipe.load("cost_default", {"codes.kind": "gaoq"})

    row = row_recipe("cost", base)

    row.validate()
    assert row.level_sizes == Recipe().level_sizes
