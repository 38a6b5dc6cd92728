"""MIND's own files, made by hand here, read as its makers describe them; the real cut where it is present."""

import gzip

import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions, read_tables
from cost_hf.data.mind import read_mind
from cost_hf.data.prepare import prepare_data

NEWS = [
    "N1\tsports\tgolf\tA quiet round\tShort & sweet\thttps://x/1\t[]\t[]",
    'N2\tnews\tworld\tSays "yes"\t\thttps://x/2\t[]\t[]',
    "N3\tnews\tworld\tThird\tText\thttps://x/3\t[]\t[]",
    "N4\tfood\t\tFourth\tText\thttps://x/4\t[]\t[]",
]
BEHAVIORS = [
    "2\tU1\t11/12/2019 2:00:00 PM\tN1 N2 N1\tN4-1 N2-0",
    "1\tU1\t11/12/2019 9:00:00 AM\tN1 N2 N1\tN3-1 N2-0",
    "3\tU2\t11/13/2019 12:00:01 AM\t\tN2-1 N3-1 N1-0",
    "4\tU3\t11/13/2019 8:00:00 AM\tN4\tN2-0",
]


def write(directory, news=NEWS, behaviors=BEHAVIORS, *, zipped=False):
    directory.mkdir(exist_ok=True)
    for name, lines in (("news.tsv", news), ("behaviors.tsv", behaviors)):
        content = "".join(line + "\n" for line in lines).encode()
        path = directory / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
    return directory


def read(directory, **options):
    return read_mind(DataOptions(reader="mind", path=str(directory), **options))


def sequences(raw):
    return raw.interactions.groupby("user_id")["item_id"].agg(list).to_dict()


def test_history_comes_first_and_clicks_follow_by_time(tmp_path):
    raw = read(write(tmp_path))

    assert sequences(raw)["U1"] == ["N1", "N2", "N1", "N3", "N4"]
    first = raw.interactions.query("user_id == 'U1'")
    assert first["position"].tolist() == [0, 1, 2, 3, 4]
    assert first["timestamp"].isna().tolist() == [True, True, True, False, False]


def test_times_are_read_as_utc_seconds(tmp_path):
    times = read(write(tmp_path)).interactions.query("user_id == 'U2'")["timestamp"]

    assert times.tolist() == [pd.Timestamp("2019-11-13 00:00:01", tz="UTC").timestamp()] * 2


def test_user_without_history_and_user_without_click_keep_what_they_have(tmp_path):
    by_user = sequences(read(write(tmp_path)))

    assert sorted(by_user["U2"]) == ["N2", "N3"]
    assert by_user["U3"] == ["N4"]


def test_clicks_of_one_impression_follow_the_seed_and_not_the_file(tmp_path):
    shown = [f"N{number}-1" for number in range(1, 5)]
    orders = {}
    for seed in range(6):
        for name, impressions in (("forward", shown), ("backward", shown[::-1])):
            line = f"1\tU1\t11/12/2019 2:00:00 PM\t\t{' '.join(impressions)}"
            raw = read(write(tmp_path / name, behaviors=[line]), seed=seed)
            orders[seed, name] = tuple(sequences(raw)["U1"])
            assert raw.counts["tied_timestamps"] == 4

    assert all(orders[seed, "forward"] == orders[seed, "backward"] for seed in range(6))
    assert len(set(orders.values())) > 1


def test_source_is_the_same_whatever_decides_ties(tmp_path):
    write(tmp_path, behaviors=["1\tU1\t11/12/2019 2:00:00 PM\tN1 N2\tN1-1 N2-1 N3-1 N4-1"])
    tables = [read_tables(DataOptions(reader="mind", path=str(tmp_path), seed=seed)) for seed in range(4)]

    assert len({each.digest for each in tables}) > 1
    assert len({each.source_digest for each in tables}) == 1


def test_byte_order_mark_is_no_part_of_the_first_id(tmp_path):
    raw = read(write(tmp_path, news=["\ufeff" + NEWS[0], *NEWS[1:]]))

    assert raw.items["item_id"].tolist() == ["N1", "N2", "N3", "N4"]


def test_catalog_has_the_texts_and_a_path_of_categories(tmp_path):
    items = read(write(tmp_path)).items.set_index("item_id")

    assert items.loc["N2", "title"] == 'Says "yes"'
    assert items.loc["N1"].tolist() == ["A quiet round", "sports", "golf", "Short & sweet", "sports, golf"]
    assert items.loc["N4", "categories"] == "food"
    assert pd.isna(items.loc["N2", "abstract"])


def test_gzip_reads_like_plain(tmp_path):
    plain, zipped = read(write(tmp_path / "a")), read(write(tmp_path / "b", zipped=True))

    pd.testing.assert_frame_equal(plain.interactions, zipped.interactions)
    pd.testing.assert_frame_equal(plain.items, zipped.items)


def test_parts_in_sub_directories_are_joined(tmp_path):
    write(tmp_path / "MINDsmall_train", NEWS[:3], BEHAVIORS[:2])
    # the later part tells the same user again, with a history that now holds the clicks of the first part
    later = "9\tU1\t11/14/2019 8:00:00 AM\tN1 N2 N1 N3 N4\tN2-1"
    write(tmp_path / "MINDsmall_dev", NEWS[2:], [later, BEHAVIORS[2]])
    (tmp_path / "MINDsmall_dev" / "entity_embedding.vec").write_text("")

    raw = read(tmp_path)

    assert sorted(raw.items["item_id"]) == ["N1", "N2", "N3", "N4"]
    assert sequences(raw)["U1"] == ["N1", "N2", "N1", "N3", "N4", "N2"]
    assert raw.counts["dropped_repeated_news"] == 1
    assert raw.counts["users_with_several_histories"] == 1


@pytest.mark.parametrize(
    ("news", "behaviors", "message"),
    [
        ([*NEWS, "N5\tfood"], BEHAVIORS, r"news\.tsv, line 5: expected 8 columns \(id, category.*got 'N5\\tfood'"),
        (NEWS, [*BEHAVIORS, "5\tU1"], r"behaviors\.tsv, line 5: expected 5 columns \(impression id"),
        (NEWS, ["1\tU1\tyesterday\tN1\tN2-1"], r"line 1: expected a time like .*got 'yesterday'"),
        (NEWS, [BEHAVIORS[0], "", "1\tU1\t13/40/2019 2:00:00 PM\tN1\tN2-1"], r"line 3: expected a time like"),
        (NEWS, ["1\tU1\t11/12/2019 2:00:00 PM\tN1\tN2 N3"], r"line 1: expected impressions .*test part.*leave it out"),
    ],
    ids=["news columns", "behavior columns", "word as time", "no such day", "no labels"],
)
def test_malformed_line_is_named_with_what_was_expected(tmp_path, news, behaviors, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, news, behaviors))


def test_bytes_that_are_no_text_are_named_by_line(tmp_path):
    write(tmp_path)
    (tmp_path / "news.tsv").write_bytes((NEWS[0] + "\n").encode() + b"N2\t\xff\n")
    with pytest.raises(DataError, match=r"news\.tsv, line 2: expected text in utf-8"):
        read(tmp_path)


def test_damaged_gzip_file_says_so(tmp_path):
    write(tmp_path, zipped=True)
    path = tmp_path / "news.tsv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"news\.tsv\.gz, after line \d+: expected a complete gzip file"):
        read(tmp_path)


def test_plain_and_gzip_of_one_file_are_an_error(tmp_path):
    write(tmp_path)
    write(tmp_path, zipped=True)
    with pytest.raises(DataError, match=r"contains \['news\.tsv', 'news\.tsv\.gz'\], expected one of them"):
        read(tmp_path)


def test_directory_without_the_files_lists_what_was_looked_for(tmp_path):
    (tmp_path / "news.csv").write_text("")
    with pytest.raises(DataError, match=r"has no news\.tsv with a behaviors\.tsv .*it contains \['news\.csv'\]"):
        read(tmp_path)


def test_missing_path_and_wrong_path_are_errors_with_a_remedy(tmp_path):
    with pytest.raises(DataError, match=r"data\.reader mind needs data\.path, got none; set it to the directory with"):
        read_tables(DataOptions(reader="mind"))
    with pytest.raises(DataError, match=r"data\.path '.*absent' is not a directory; .*correct the path, or unpack"):
        read(tmp_path / "absent")


def test_files_named_by_option_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"finds its files in data\.path .* got data\.items='a\.csv'; remove that"):
        read(write(tmp_path), items="a.csv")


def test_news_without_a_row_follow_on_unknown_item(tmp_path):
    options = {"reader": "mind", "path": str(write(tmp_path, NEWS[:3]))}
    with pytest.raises(DataError, match=r"interactions\.item_id, row \d+: expected an id that is in items, got 'N4'"):
        read_tables(DataOptions(**options))

    tables = read_tables(DataOptions(**options, on_unknown_item="drop"))

    assert tables.counts["dropped_unknown_item_interactions"] == 2
    assert tables.interactions.query("user_id == 'U1'")["position"].tolist() == [0, 1, 2, 3]


def test_one_table_alone_cannot_stand_in_for_what_a_reader_makes(tmp_path):
    items = pd.DataFrame({"item_id": ["N1"], "title": ["x"]})
    with pytest.raises(DataError, match=r"data\.reader mind provides both tables, got a source of items alone"):
        read_tables(DataOptions(reader="mind", path=str(write(tmp_path))), items=items)


def test_real_cut_has_the_clicks_of_its_description(shared_data):
    raw = read(shared_data / "mind_subset" / "raw")
    known = pd.read_parquet(shared_data / "mind_subset" / "interactions_full.parquet")
    known = known.sort_values(["user_id", "position"], ignore_index=True)
    clicks = raw.interactions

    assert (clicks["user_id"].nunique(), clicks["item_id"].nunique(), len(clicks)) == (4637, 17628, 146474)
    assert len(raw.items) == 2000
    assert clicks[["user_id", "position"]].equals(known[["user_id", "position"]].astype({"position": "int64"}))
    assert clicks["timestamp"].astype("float64").equals(known["timestamp"])
    # histories agree in order; clicks of one time agree as sets, their order there is the file's and here the hash's
    is_history = clicks["timestamp"].isna()
    assert clicks.loc[is_history, "item_id"].tolist() == known.loc[is_history, "item_id"].tolist()
    columns = ["user_id", "timestamp", "item_id"]
    ordered = [frame[~is_history].sort_values(columns)["item_id"].tolist() for frame in (clicks, known)]
    assert ordered[0] == ordered[1]


def test_real_cut_goes_all_the_way_to_a_split(shared_data):
    options = DataOptions(reader="mind", path=str(shared_data / "mind_subset" / "raw"), on_unknown_item="drop")

    data = prepare_data(options, template="{category}. {subcategory}. {title}")

    assert (len(data.split.test), data.tables.num_items) == (721, 2000)
