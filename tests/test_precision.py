"""Mixed precision follows the processor, not only the recipe."""

import logging

import pytest

from cost_hf import precision
from cost_hf.precision import trains_in_bf16


@pytest.fixture
def machine(monkeypatch):
    def set_machine(*, cuda=False, architecture="x86_64", capability="AVX2"):
        monkeypatch.setattr(precision.torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(precision.platform, "machine", lambda: architecture)
        monkeypatch.setattr(precision.torch.backends.cpu, "get_cpu_capability", lambda: capability)

    return set_machine


@pytest.mark.parametrize(
    ("asked", "settings", "expected"),
    [
        ("auto", {"cuda": True}, True),
        ("auto", {"capability": "AVX512"}, False),
        ("fp32", {"cuda": True}, False),
        ("bf16", {"cuda": True}, True),
        ("bf16", {"capability": "AVX512"}, True),
        ("bf16", {"architecture": "aarch64", "capability": "DEFAULT"}, True),
    ],
)
def test_what_the_recipe_asks_for_holds_where_it_is_fast(machine, caplog, asked, settings, expected):
    machine(**settings)

    with caplog.at_level(logging.WARNING):
        assert trains_in_bf16(asked) is expected

    assert not caplog.records


@pytest.mark.parametrize("capability", ["AVX2", "DEFAULT"])
def test_bf16_on_a_cpu_without_it_is_fp32_and_said(machine, caplog, capability):
    machine(capability=capability)

    with caplog.at_level(logging.WARNING):
        assert trains_in_bf16("bf16") is False

    assert f"this CPU ({capability})" in caplog.text
    assert "training in fp32" in caplog.text
