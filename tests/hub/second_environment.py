"""Programs run where this package is not installed."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SecondEnvironment:
    """An interpreter without this package, and a folder of its own for caches."""

    python: Path
    folder: Path

    def run(self, program: str, *arguments: str | Path, **environment: str) -> str:
        """Run a program and return what it printed; fail with its error where it fails."""
        places = {"HF_HOME": str(self.folder / "home"), "HF_MODULES_CACHE": str(self.folder / "modules")}
        defaults = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [self.python, "-c", program, *map(str, arguments)],
            env=inherited | places | defaults | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout
