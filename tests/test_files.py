import pytest

from cost_hf.files import read_json, write_json


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"loss": [1.5, None]})

    assert read_json(tmp_path / "a.json") == {"loss": [1.5, None]}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_unknown_to_json_are_refused_and_leave_no_file(tmp_path, number):
    with pytest.raises(ValueError, match=r"log.json takes finite numbers, got nan or inf .*; write null instead"):
        write_json(tmp_path / "log.json", [{"loss": number}])

    assert list(tmp_path.iterdir()) == []
