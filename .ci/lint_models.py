"""Run transformers' own model linter over the Hub closures, without the rules that are not about them."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import mlinter

CLOSURES = sorted({str(path.parent) for path in Path("cost_hf").glob("*/*/modeling_*.py")})
NOT_OURS = {
    "TRF028": "the licence header of files inside transformers; ours stands in LICENSE",
    "TRF038": "where transformers keeps its tests",
    "TRF041": "names the released checkpoints behind every branch; our branches are options of a recipe",
    "TRF057": "documentation generated inside transformers",
    "TRF058": "modular files inside transformers; a buffer that is empty until data is attached has to be registered",
}


def main() -> int:
    """Write the rules file and return the linter's exit status."""
    rules = (Path(mlinter.__file__).parent / "rules.toml").read_text(encoding="utf-8")
    for rule in NOT_OURS:
        pattern = rf"(\[rules\.{rule}\]\n(?:(?!\[rules).)*?default_enabled = )true"
        rules = re.sub(pattern, r"\1false", rules, flags=re.DOTALL)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.toml"
        path.write_text(rules, encoding="utf-8")
        command = [sys.executable, "-m", "mlinter", *CLOSURES, "--rules-toml", path, "--no-progress", "--no-cache"]
        return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
