"""An export with everything wrong at once: each fault with its count, its first line and the flag, all in one list."""

import shlex

import pandas as pd
import pytest

import cost_hf
from cost_hf.data import DataOptions, read_tables
from cost_hf.experiments.check.dates import FORMATS, guess_date_format
from cost_hf.experiments.check.reading import read_leniently
from cost_hf.experiments.commands import read_overrides
from cost_hf.experiments.recipe import Recipe
from cost_hf.yaml_text import read_yaml

WORDS = ["Tee", "Kanne", "Tasse", "Löffel", "Sieb", "Dose", "Kaffee", "Mühle", "Filter", "Becher"]


def write_shop(folder) -> None:
    """Write a German export: cp1252, semicolons, decimal commas, German dates, guests, an item twice, broken lines."""
    items = ["artikelnr;name;marke;preis"]
    items += [f"{100 + number};{word} {number};Marke {number % 3};{number},50" for number, word in enumerate(WORDS * 3)]
    items.append("100;Tee neu;Marke 0;9,90")
    (folder / "produkte.csv").write_bytes("\r\n".join(items).encode("cp1252"))
    rows = ["kundennr;artikelnr;datum;aktion;sitzung"]
    for user in range(40):
        for step in range(6):
            kind = "purchase" if step % 3 == 2 else "view"
            rows.append(f"{500 + user};{100 + (user + step) % 30};{step + 1:02d}.03.2024 12:0{step};{kind};s{user}")
    rows.insert(3, "501;100;05.03.2024")  # line 4
    rows += [";101;01.03.2024 10:00;view;g1", ";102;01.03.2024 10:05;view;g1", "502;103;neulich;view;s2"]
    (folder / "bestellungen.csv").write_bytes("\r\n".join(rows).encode("cp1252"))


def test_every_fault_is_listed_with_its_count_first_line_and_flag(tmp_path):
    write_shop(tmp_path)

    reading = read_leniently(DataOptions(path=str(tmp_path)), None)

    form = {"sep": ";", "items.encoding": "cp1252", "items.decimal": ",", "date_format": "%d.%m.%Y %H:%M"}
    found = {(problem.first, problem.count, problem.remedy) for problem in reading.problems if problem.count}
    assert {("produkte.csv line 1", 32), ("bestellungen.csv line 1", 245), ("produkte.csv line 5", 6)} <= {
        (first, count)
        for first, count, remedy in found
        if remedy.startswith("--data.csv") and read_yaml(shlex.split(remedy)[1]) == form
    }
    by_place = {problem.first: problem for problem in reading.problems if problem.count}
    assert {"bestellungen.csv line 4", "produkte.csv line 32", "bestellungen.csv line 243"} <= set(by_place)
    assert by_place["bestellungen.csv line 4"].remedy == "--data.on_bad_row drop"
    assert by_place["bestellungen.csv line 4"].count == 1
    assert "on_duplicate_item first" in by_place["produkte.csv line 32"].remedy
    assert by_place["bestellungen.csv line 243"].remedy.startswith(
        "--data.on_missing_user session --data.session_column sitzung"
    )
    assert by_place["bestellungen.csv line 243"].count == 2
    assert {problem.severity for problem in by_place.values()} == {"error", "warning"}
    assert (by_place["bestellungen.csv line 245"].count, by_place["produkte.csv line 2"].severity) == (1, "warning")
    messages = " | ".join(problem.message for problem in reading.problems)
    for part in ("not in UTF-8", "a semicolon", "decimal comma", "written like '01.03.2024 12:00'", "'neulich'"):
        assert part in messages


def test_lines_are_counted_over_all_parts_and_other_encodings_are_noted(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\na,tea\nb,pot\nc,cup\n")
    for number, encoding in enumerate(("cp1252", "utf-8", "cp1252"), start=1):
        rows = "".join(f"Jörg{number};{item};{step}\n" for step, item in enumerate("abc"))
        (tmp_path / f"orders-{number}.csv").write_bytes(f"user_id;item_id;position\n{rows}".encode(encoding))

    reading = read_leniently(DataOptions(path=str(tmp_path)), None)

    encoding, separator = (problem for problem in reading.problems if problem.count)
    assert (encoding.first, encoding.count) == ("orders-1.csv line 2", 6)
    assert "but 3 lines in UTF-8 would be read wrongly" in encoding.remedy
    assert (separator.first, separator.count) == ("orders-1.csv line 1", 12)
    assert reading.options.interactions == "orders-*.csv"


def test_the_numbers_of_json_are_no_texts_with_decimal_commas(tmp_path):
    rows = [f'{{"item_id": "{item}", "title": "{item} tea", "price": "1,50"}}\n' for item in "abc"]
    (tmp_path / "items.jsonl").write_text("".join(rows))
    (tmp_path / "interactions.csv").write_text("user_id,item_id,position\nu,a,0\nu,b,1\nu,c,2\n")

    assert read_leniently(DataOptions(path=str(tmp_path)), None).needed == {}


def test_flags_can_be_pasted_into_a_shell(tmp_path):
    write_shop(tmp_path)
    log = tmp_path / "bestellungen.csv"
    log.write_bytes(log.read_bytes().replace(b";aktion;sitzung", b";Art der Aktion;Session ID", 1))

    reading = read_leniently(DataOptions(path=str(tmp_path)), None)

    remedies = " ".join(problem.remedy for problem in reading.problems)
    assert "--data.session_column 'Session ID'" in remedies
    assert any(column.use.startswith("--data.event_column 'Art der Aktion' ") for column in reading.unused)


def test_the_flags_read_the_data(tmp_path):
    write_shop(tmp_path)

    found = cost_hf.check(tmp_path, overrides={"method": "markov"})
    tokens = [part for name, text in found.flags.items() for part in (f"--{name}", text)]
    values = read_overrides(tokens, Recipe.load("cost_default", {"method": "markov"}), program="check")
    options = {name.removeprefix("data."): value for name, value in values.items() if name.startswith("data.")}
    tables = read_tables(DataOptions(**options), template=values["vectors.template"])

    assert len(tables.items) == 30
    assert len(tables.interactions) == 240 + 2
    assert tables.counts["guest_sessions"] == 1
    assert tables.items["preis"].iloc[0] == 0.5
    assert all("--data.csv" in command for command in found.commands)


def test_columns_that_are_not_used_are_listed_with_what_would_use_them(tmp_path):
    write_shop(tmp_path)

    unused = {column.name: column for column in read_leniently(DataOptions(path=str(tmp_path)), None).unused}

    assert set(unused) == {"preis", "aktion"}
    assert "{preis}" in unused["preis"].use
    assert unused["aktion"].use.startswith(
        "--data.event_column aktion --data.event_weights '{view: 1, purchase: 5}' --data.target_events '[purchase]'"
    )


def test_types_of_events_without_a_weight_are_a_fault(tmp_path):
    write_shop(tmp_path)
    options = DataOptions(path=str(tmp_path), event_column="aktion", event_weights={"purchase": 1})

    reading = read_leniently(options, None)

    (fault,) = [problem for problem in reading.problems if "does not name" in problem.message]
    assert (fault.count, fault.first) == (163, "bestellungen.csv line 2")
    assert reading.needed["data.on_unknown_event"] == "ignore"
    assert reading.tables.counts["events.purchase"] == 80


def test_a_clean_export_has_no_faults(tmp_path):
    pd.DataFrame({"item_id": list("abc"), "title": ["tea", "pot", "cup"]}).to_csv(tmp_path / "items.csv", index=False)
    clicks = pd.DataFrame({"user_id": list("uuuvvv"), "item_id": list("abcabc"), "timestamp": range(6)})
    clicks.to_csv(tmp_path / "interactions.csv", index=False)

    reading = read_leniently(DataOptions(path=str(tmp_path)), None)

    assert [problem for problem in reading.problems if problem.count] == []
    assert (reading.unused, reading.needed) == ([], {})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf_16_is_found(tmp_path, encoding):
    (tmp_path / "items.csv").write_bytes("item_id,title\na,tea\nb,pot\nc,cup\n".encode(encoding))
    clicks = pd.DataFrame({"user_id": list("uuuvvv"), "item_id": list("abcabc"), "timestamp": range(6)})
    clicks.to_parquet(tmp_path / "interactions.parquet")

    reading = read_leniently(DataOptions(path=str(tmp_path)), None)

    assert reading.needed == {"data.csv": {"encoding": encoding}}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_recognised(name):
    times = pd.Series(pd.date_range("2019-11-13 14:45:31", periods=50, freq="37h13min5s"))

    found = guess_date_format(times.dt.strftime(name))

    assert found is not None
    assert name in (found.text, *found.others)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1_700_000_000_000, 1_700_000_100_000], "ms"),
        ([1_700_000_000, 1_700_000_100], None),
        (["2024-01-31", "2024-02-01T10:00:00Z"], None),
        (["one", "two"], None),
        ([None, None], None),
    ],
)
def test_a_format_is_named_only_where_it_is_needed(values, expected):
    found = guess_date_format(pd.Series(values, dtype=object))

    assert (found and found.text) == expected


def test_days_and_months_that_can_be_swapped_are_noted():
    found = guess_date_format(pd.Series(["01/02/2024", "03/04/2024"]))

    assert found.text == "%d/%m/%Y"
    assert found.others == ("%m/%d/%Y",)
