"""One thread per test process: results do not depend on the machine, and two fit two cores."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
