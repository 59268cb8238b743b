"""Policies with and without a memory."""

import numpy as np
import torch

from tests.fakes import Counter
from tutelage.heads import Categorical
from tutelage.policies import Function, begin_again


def test_any_function_is_a_policy_without_a_memory() -> None:
    policy = Function(lambda obs: obs[:, -1] * 2.0, Categorical(2))
    assert policy.initial(3) == ()
    out, carry = policy.step(torch.tensor([[[1.0, 2.0]]]), ())
    assert (out.tolist(), carry) == ([[2.0, 4.0]], ())


def test_memory_begins_again_where_episodes_ended_and_nowhere_else() -> None:
    policy, carry = Counter(), (torch.tensor([[3], [4], [5]]),)
    (after,) = begin_again(policy, carry, np.array([True, False, True]))
    assert after.tolist() == [[0], [4], [0]]
    assert begin_again(policy, carry, np.zeros(3, np.bool_)) is carry
    assert begin_again(Function(lambda obs: obs, Categorical(2)), (), np.ones(3, np.bool_)) == ()
