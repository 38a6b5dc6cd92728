import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import cost_hf
from cost_hf.cli import COMMANDS, main
from cost_hf.command_line import report_errors
from cost_hf.data.synthetic import make_news
from cost_hf.experiments.commands import train_main
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import methods
from cost_hf.recipe_files import shipped_recipes

ROOT = Path(__file__).parent.parent


def test_help_is_short_and_names_all_recipes_and_methods():
    done = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert len(done.stdout.splitlines()) < 60
    assert [name for name in (*shipped_recipes(), *methods()) if not re.search(rf"\b{name}\b", done.stdout)] == []


def help_of(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit):
        main(["train", *arguments, "--help"])
    return capsys.readouterr().out


def listed_fields(text: str) -> list[str]:
    return re.findall(r"^  --([\w.]+) +.*\[.*\]$", text.partition("fields and their values")[2], re.MULTILINE)


@pytest.mark.parametrize("name", shipped_recipes())
def test_help_of_a_recipe_lists_its_fields_with_their_values_and_no_others(capsys, name):
    text = help_of(capsys, "--recipe", name)

    recipe = Recipe.load(name)
    assert listed_fields(text) == [entry.dotted for entry in recipe.fields()]
    line = next(line for line in text.splitlines() if "--data.seed" in line)
    assert line.endswith(f"[{recipe.data.seed}]")


@pytest.mark.parametrize("name", methods())
def test_help_of_a_method_lists_its_fields(capsys, name):
    fields = [entry.dotted for entry in Recipe.load("cost_quickstart", {"method": name}).fields()]

    assert listed_fields(help_of(capsys, "--method", name)) == fields
    assert listed_fields(help_of(capsys, "--recipe", "cost_quickstart", f"--method={name}")) == fields


def test_a_value_of_an_option_is_no_recipe_though_one_has_its_name(capsys, tmp_path):
    """The fields of a command are those of the recipe that it names, whatever method or system is named like one."""
    assert "markov_text" in {*shipped_recipes()} & {*methods()}
    asked = ["compare", str(tmp_path), "--systems", "markov_text", "--codes.level_sizes", "[8, 8, 8, x"]

    assert main(asked) == 2

    assert "codes.level_sizes must be list[int], got" in capsys.readouterr().err


def test_help_of_a_kind_of_codes_lists_its_fields(capsys):
    fields = listed_fields(help_of(capsys, "--recipe", "cost_quickstart", "--codes.kind", "random"))

    assert "codes.level_sizes" in fields and "codes.epochs" not in fields


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--training.epoch", "3"],
            "unknown argument '--training.epoch' for a recipe of method sid_generator; did you mean 'training.epochs'?",
        ),
        (["--method", "sasrec", "--modle.dropout", "0"], "of method sasrec; did you mean 'model.dropout'?"),
        (["--method", "sasrec", "--max_history", "9"], "of method sasrec; did you mean 'model.max_history'?"),
        (["--max_history", "9"], "of method sid_generator; did you mean 'generator.max_history'?"),
        (
            ["--codes.kind", "rqvae", "--codes.positives", "coclick"],
            "'--codes.positives' for a recipe of method sid_generator with codes.kind rqvae; codes.kind cost and "
            "cost_rqvae have it",
        ),
        (
            ["--vectors.kind", "famae", "--vectors.model", "lsa"],
            "of method sid_generator with vectors.kind famae; vectors.kind latents and text have it",
        ),
        (["--codes.kind", "rqvae", "--codes.epoch", "1"], "with codes.kind rqvae; did you mean 'codes.epochs'?"),
        (["--codes.batch-size", "1"], "with codes.kind cost; did you mean 'codes.batch_size'?"),
        (["--recipe", "sasrec_beauty", "--codes.kind", "cost"], "unknown field 'codes.kind' of method sasrec"),
        (
            ["--recipe", "markov_text", "--codes.level_sizes", "[32, 32]"],
            "for a recipe of method markov_text, which has no section 'codes'; leave it out (",
        ),
        (
            ["--recipes", "x"],
            "unknown argument '--recipes' for a recipe of method sid_generator; did you mean 'recipe'?",
        ),
        (["quickstrat"], "(`cost-hf train --help` lists recipes); a recipe is named by --recipe"),
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
    assert main(["rank"]) == 2

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochs", "3"], "did you mean 'training.epochs' (or codes.epochs)"),
        (["train", "--batch-size", "3"], "did you mean 'training.batch_size' (or "),
        (["train", "--output-dir", "x"], "did you mean 'output_dir'"),
        (["train", "--seed", "abc"], "argument --seed: expected a whole number from 0 to 4294967295, got 'abc'"),
        (["train", "--seed", "-1"], "expected a whole number from 0"),
        (["train", "--training.learning_rate", ".nan"], "training.learning_rate must be a finite number, got nan"),
        (["train", "--training.epochs", "9" * 500], "training.epochs must be int, got a number beyond 64 bits"),
        (["train", "--training.epochs", "2024-01-01"], "training.epochs must be int, got '2024-01-01'"),
        (["train", "--codes.level_sizes", "[&a 8, *a]"], "line 1 refers to another value by an alias"),
        (["train", "--data.columns", "{title: a, title: b}"], "give 'title' twice"),
        (
            ["train", "--evaluation.baselines", "[markof]"],
            "'markof' is neither a method nor a recipe; did you mean 'mark",
        ),
        (["train", "--recipe", "nope.yaml"], "no recipe file 'nope.yaml'"),
        (["train", "--output_dir", "file"], "'file' is a file, expected a directory"),
        (["train", "--output_dir", "file/below"], "'file' is a file, expected a directory"),
        (["train", "--data.reader", "tables", "--data.path", "nope/nope/x"], "nope"),
        (["train", "--catalog.reference", "nope.parquet"], "catalog.reference 'nope.parquet' is no file"),
        (["train", "--tasks.templates", "nope"], "tasks.templates 'nope' is no directory"),
        (["train", "--vectors.model", "./nope"], "vectors.model './nope' is no directory"),
        (["train", "--recipe", "cost_llm", "--generator.backbone", "/nope"], "generator.backbone '/nope' is no direc"),
        (["check", "nope"], "'nope' is neither a directory here nor a Hub data set"),
        (["check", "folder", "--json", "folder"], "'folder' is a directory, expected a file"),
        (["compare", "cost_quickstart", "--budget", "1e9h"], "expected a time such as 90s, 60min or 2h"),
        (["compare", "cost_quickstart", "--reference", "nope.parquet"], "--reference 'nope.parquet' is no file"),
        (["compare", "cost_quickstart", "--output_dir", "file"], "'file' is a file, expected a directory"),
        (["compare", "nope"], "'nope' is neither a directory here nor a Hub data set"),
        (["upload", "runs/nope", "--namespace", "me"], "'runs/nope' does not exist"),
        (["upload", "folder"], "the following arguments are required: --namespace"),
        (["upload", "folder", "--namespace", "me"], "is an unfinished run"),
        (["upload", "folder", "--namespace", "me", "--what", "demo"], "expected parts of quantizer"),
        (["update-catalog", "runs/nope"], "'runs/nope' is not there"),
        (["update-catalog", "folder/nope"], "'folder/nope' is not there"),
        (["update-catalog", "/nowhere/x", "--rollback"], "'/nowhere/x' is not there"),
        (["update-catalog", "folder", "nope.csv"], "'nope.csv' does not exist"),
        (["update-catalog", "folder", "folder"], "'folder' is a directory, expected a file"),
        (["update-catalog", "folder", "--rollback"], "folder holds no recommender.json"),
        (["update-catalog", "file", "--rollback"], "file"),
        (["recommend", "runs/nope", "n1"], "'runs/nope' is not there"),
        (["recommend", "folder"], "give the items of one history, or --input with the histories of many"),
        (["recommend", "folder", "n1", "--input", "x", "--output", "y"], "or --input with the histories of many"),
        (["recommend", "folder", "--input", "x"], "--input and --output go together"),
        (["recommend", "folder", "--input", "x", "--output", "y", "--explain"], "are for one history"),
        (["recommend", "folder", "--input", "x", "--output", "file"], "'file' is a file, expected a directory"),
        (["encode", "runs/nope", "--input", "x", "--output", "y"], "'runs/nope' is not there"),
        (["encode", "folder"], "the following arguments are required: --input, --output"),
        (["embed", "lsa", "--input", "x", "--output", "y", "--template", "{title}"], "lsa is fitted on the texts"),
        (["embed", "folder", "--input", "x", "--output", "y", "--template", "{title}"], "no file 'x'"),
        (["recommend", "folder", "n1", "--top-k", "0"], "expected a whole number of 1 or more, got '0'"),
        (["recommend", "folder", "n1"], "folder holds no recommender.json"),
        (["export", "runs/nope", "--to", "parquet"], "'runs/nope' is not there"),
        (["export", "folder", "--to", "parkett"], "did you mean 'parquet'"),
        (["export", "folder", "--to", "parquet", "--output", "file"], "'file' is a file, expected a directory"),
        (["demo", "runs/nope"], "'runs/nope' is not there"),
        (["demo", "folder", "--port", "70000"], "expected a port from 1 to 65535, got '70000'"),
        (["trian"], "unknown command 'trian'; did you mean 'train'"),
    ],
)
def test_a_mistake_of_any_argument_is_one_line_that_names_it(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")

    assert main(arguments) == 2

    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert "[Errno" not in error and "Traceback" not in error


@pytest.mark.parametrize("error", [PermissionError(13, "x", "/there"), OSError(28, "x"), KeyError("no item 'a' here")])
def test_errors_of_the_system_and_of_unknown_items_are_readable(error, capsys):
    def action():
        raise error

    assert report_errors(action) == 2

    told = capsys.readouterr().err
    assert told.startswith("error: ") and "[Errno" not in told and '"no item' not in told


def test_memory_that_is_used_up_is_one_line(capsys):
    for allocate in (lambda: np.zeros(2**50), lambda: torch.zeros(2**50)):  # more than any machine has
        assert report_errors(allocate) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: no memory is left (") and "lower the batch sizes" in told
        assert told.count("\n") == 1


def test_an_error_that_is_not_of_the_user_shows_its_trace():
    with pytest.raises(RuntimeError, match="of the package"):
        report_errors(lambda: exec("raise RuntimeError('of the package')"))


def test_a_missing_key_is_a_bug_and_shows_its_trace():
    with pytest.raises(KeyError):
        report_errors(lambda: {}["name"])


@pytest.mark.parametrize("command", [["--version"], ["train", "--version"], ["upload", "--version"]])
def test_the_version_is_told(command, capsys):
    with pytest.raises(SystemExit) as left:
        main(command)

    assert left.value.code == 0 and capsys.readouterr().out == f"cost-hf {cost_hf.__version__}\n"


def test_what_an_error_quotes_never_reaches_the_terminal_raw(capsys, tmp_path):
    evil = tmp_path / "\x1b[2J\x9b31m\u202eevil"

    assert main(["check", str(evil)]) == 2
    assert main(["train", f"--{evil.name}", "1"]) == 2

    told = capsys.readouterr().err
    assert not set("\x1b\x9b\u202e") & set(told) and "x1b[2J" in told
