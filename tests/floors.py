"""Print constraints that pin every dependency of pyproject.toml to its floor (torch stays at the tested build)."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *extras["demo"], *extras["notebooks"], *extras["titles"], *extras["dev"]]:
    if requirement.startswith(project["name"]):  # dev names the other extras
        continue
    name, floor = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()
    tested = re.search(rf"^{name}==(.+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE | re.IGNORECASE)
    print(
        f"{name}=={tested.group(1)}"
        if name == "torch"
        else f"{name}=={floor}"
        if floor.count(".") > 1
        else f"{name}=={floor}.*"
    )
