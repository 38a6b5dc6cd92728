"""Faults of the machine that tests bring about: directories that may not be written to, and disks that are full."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CAPABILITY_VERSION = 0x20080522
DAC_OVERRIDE = 1  # the capability by which root writes whatever the permissions are
# run in a mount namespace of its own, where this process may have one, so that nothing is left of the disk
NAMESPACE = ["unshare", "--mount", "--map-root-user"]


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Take the permission to write from a directory and all below it, and from this thread the right to ignore that."""
    folders = [directory, *(path for path in directory.rglob("*") if path.is_dir())]
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder in folders:
        folder.chmod(0o555)
    before = _without_override() if os.geteuid() == 0 else None
    try:
        yield
    finally:
        if before is not None:
            _set_capabilities(before)
        for folder, mode in modes.items():
            folder.chmod(mode)


class _Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def _without_override() -> "ctypes.Array[_Capabilities]":
    """Give up a capability of this thread for a while; return those that it had."""
    if not sys.platform.startswith("linux"):
        pytest.skip("root may write everywhere on this system")
    before = (_Capabilities * 2)()
    _call("capget", before)
    after = type(before).from_buffer_copy(before)
    after[0].effective &= ~(1 << DAC_OVERRIDE)
    _set_capabilities(after)
    return before


def _set_capabilities(wanted: "ctypes.Array[_Capabilities]") -> None:
    _call("capset", wanted)


def _call(name: str, data: "ctypes.Array[_Capabilities]") -> None:
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    if getattr(ctypes.CDLL(None, use_errno=True), name)(header, data) != 0:
        raise OSError(ctypes.get_errno(), f"{name} failed")


def run_on_small_disk(script: str, place: Path, *, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a shell script with a disk of its own mounted at `$DISK`, which a script sizes by `resize NUMBERk`.

    The test is skipped where this user can't mount one.
    """
    place.mkdir()
    if shutil.which("unshare") is None or _run(["true"], environment).returncode != 0:
        pytest.skip("needs util-linux's unshare, and the right to a mount namespace")
    whole = f"""
        set -e
        resize() {{ mount -o remount,size=$1 "$DISK"; }}
        mount -t tmpfs -o size=16k none "$DISK"
        {script}
    """
    return _run(["sh", "-c", whole], environment | {"DISK": str(place), "PYTHON": sys.executable})


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*NAMESPACE, *command], env=environment, capture_output=True, text=True, timeout=900)
