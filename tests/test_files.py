import errno
import json
import shutil

import pytest
from safetensors import SafetensorError

from cost_hf.files import (
    DamagedFileError,
    atomic_path,
    check_fields,
    check_file_digests,
    file_digest,
    read_json,
    read_tensors,
    readable_load_errors,
    readable_os_errors,
    write_json,
)


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"loss": [1.5, None]})

    assert read_json(tmp_path / "a.json") == {"loss": [1.5, None]}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_unknown_to_json_are_refused_and_leave_no_file(tmp_path, number):
    with pytest.raises(ValueError, match=r"log.json takes finite numbers, got nan or inf .*; write null instead"):
        write_json(tmp_path / "log.json", [{"loss": number}])

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_alike_whatever_library_meets_it(tmp_path):
    target = tmp_path / "file"
    errors = [
        OSError(errno.ENOSPC, "No space left on device", "from", None, str(target)),
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),
        shutil.Error([("from", str(target), f"[Errno 28] No space left on device: 'from' -> '{target}'")]),
    ]
    for error in errors:
        told = f"^{target}: no space is left on the device; free some"
        with pytest.raises(OSError, match=told) as caught, atomic_path(target):
            raise error
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match=told), readable_os_errors(), readable_os_errors(target):
            raise error  # once more changes nothing
    with pytest.raises(SafetensorError, match="header too small"), atomic_path(target):
        raise SafetensorError("header too small")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate 8 GiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")],
)
def test_a_file_that_does_not_fit_into_memory_is_not_called_damaged(tmp_path, error):
    with pytest.raises(type(error), match="allocate") as caught, readable_load_errors("the model", tmp_path):
        raise error

    assert caught.value is error


@pytest.mark.parametrize(
    ("value", "kind", "is_right"),
    [
        (3, int, True),
        (True, int, False),
        (3, bool, False),
        (None, str | None, True),
        (3, str | None, False),
        ([1, 2], list[int], True),
        ([1, "2"], list[int], False),
        ((1, 2), list[int], False),
        ({"a": "b"}, dict[str, str], True),
        ({"a": None}, dict[str, str], False),
        ({"a": None}, dict, True),
        ([], list, True),
    ],
)
def test_fields_have_their_types(value, kind, is_right):
    if is_right:
        check_fields({"x": value}, {"x": kind}, source="file.json")
    else:
        with pytest.raises(DamagedFileError, match=r"file.json has x=.*, expected"):
            check_fields({"x": value}, {"x": kind}, source="file.json")
    with pytest.raises(DamagedFileError, match=r"file.json has no field 'x'"):
        check_fields({}, {"x": kind}, source="file.json")


def test_links_count_as_files_only_where_that_is_asked_for(tmp_path):
    (tmp_path / "real").write_text("content")
    (tmp_path / "link").symlink_to("real")
    digests = {"link": file_digest(tmp_path / "real")}

    check_file_digests(tmp_path, digests, follows_links=True)
    with pytest.raises(DamagedFileError, match="link is missing, expected a file"):
        check_file_digests(tmp_path, digests)


def test_an_error_that_is_readable_already_keeps_its_path():
    readable = pytest.raises(PermissionError, match="/there: permission denied")
    with readable as told, readable_os_errors(), readable_os_errors():
        raise PermissionError(errno.EACCES, "Permission denied", "/there")
    assert told.value.errno == errno.EACCES


@pytest.mark.parametrize(
    ("kind", "shape", "size"), [("BF16", [1], 2), ("F8_E4M3", [1], 1), ("F32", [2**31, 2**31, 0], 0)]
)
def test_tensors_that_numpy_can_not_hold_are_those_of_a_damaged_file(tmp_path, kind, shape, size):
    header = json.dumps({"x": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))

    with pytest.raises(DamagedFileError, match=r"x\.safetensors is no whole safetensors file"):
        read_tensors(path)
