import json
import subprocess
import sys
from pathlib import Path

import pytest

from cost_hf.cli import COMMANDS, main
from cost_hf.data.synthetic import make_news
from cost_hf.recipe_commands import train_main

ROOT = Path(__file__).parent.parent


def test_help_lists_recipes_and_fields_with_one_line_each():
    done = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "cost_industrial" in done.stdout
    line = next(line for line in done.stdout.splitlines() if "--training.epochs" in line)
    assert "passes over the training set" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.epoch", "3"], "unknown argument '--training.epoch'; did you mean 'training.epochs'"),
        (["--recipes", "x"], "unknown argument '--recipes'; did you mean 'recipe'"),
        (["stray"], "unknown argument 'stray'"),
        (["--training.epochs"], "--training.epochs needs a value"),
        (["--training.epochs=many"], "training.epochs must be int, got 'many'"),
        (["--recipe", "cost_industrial", "--data.path", "/nowhere"], "/nowhere"),
    ],
)
def test_an_error_of_the_user_is_one_line_and_status_two(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    status = train_main(arguments)

    error = capsys.readouterr().err
    assert status == 2
    assert message in error
    assert "Traceback" not in error


def test_cost_hf_train_is_the_same_main(capsys):
    assert main(["train", "--training.epoch", "3"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_check_reads_a_directory_and_says_what_to_run_next(tmp_path, capsys):
    news = make_news(num_users=60, num_items=96)
    news.items.to_parquet(tmp_path / "items.parquet")
    news.interactions.to_parquet(tmp_path / "interactions.parquet")

    status = main(["check", str(tmp_path), "--json", str(tmp_path / "found.json")])

    text = capsys.readouterr().out
    assert status in (0, 1)
    assert "96" in text
    assert "cost-hf compare" in text
    assert max(map(len, text.splitlines())) <= 110 + len(str(tmp_path))
    assert json.loads((tmp_path / "found.json").read_text())["clicks"]["users"] == 60


def test_check_of_nothing_is_an_error_that_helps(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert "items" in capsys.readouterr().err


def test_an_unknown_command_names_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        main(["recommend"])

    assert "compare" in capsys.readouterr().err


def test_every_command_is_there_and_has_help():
    for name in COMMANDS:
        with pytest.raises(SystemExit) as left:
            main([name, "--help"])
        assert left.value.code == 0


def test_without_a_command_all_of_them_are_listed(capsys):
    assert main([]) == 2

    printed = capsys.readouterr().out
    assert [name for name in COMMANDS if f"  {name} " not in printed] == []
