"""What every test runs under: one thread, and no deadline that a busy machine could miss."""

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
