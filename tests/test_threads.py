"""PyTorch's threads: a library leaves them alone, a command owns them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tutelage import threads


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_a_library_changes_nothing() -> None:
    with threads.one_thread():
        assert torch.get_num_threads() == 3


def test_what_a_command_sets_is_put_back_even_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), threads.owning(2):  # noqa: PT012
        with threads.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        raise ZeroDivisionError
    assert torch.get_num_threads() == 3
    with threads.one_thread():
        assert torch.get_num_threads() == 3


def test_another_thread_of_the_process_owns_nothing() -> None:
    def seen() -> int:
        with threads.one_thread():
            return torch.get_num_threads()

    with threads.owning(2), ThreadPoolExecutor(1) as other:
        before = other.submit(torch.get_num_threads).result()
        assert other.submit(seen).result() == before


@pytest.mark.parametrize(
    ("cores", "busy", "convolutions", "expected"),
    [
        (8, 0.2, True, 2),
        (8, 0.2, False, 1),
        (2, 1.2, True, 1),
        (2, 0.3, True, 2),
        (1, 0.0, True, 1),
    ],
)
def test_two_threads_only_where_there_is_work_and_a_core_for_both(
    cores: int, busy: float, convolutions: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr("os.getloadavg", lambda: (busy, 0.0, 0.0))
    assert threads.usual(convolutions=convolutions) == expected
