import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Tests draw from the global generator: make it the same for each of them."""
    torch.manual_seed(0)
