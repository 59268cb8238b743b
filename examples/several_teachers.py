"""Four teachers, of whom nobody knows which is good: a bandit finds out while the student learns.

python examples/several_teachers.py
"""

import torch

import tutelage as tt
from tutelage.choice_log import read_log

LEAN = torch.tensor([0.05, 0.2, 1.0, 0.6])
"""How far position, speed, angle and turning speed of the pole say "push to the right"."""


def good(obs: torch.Tensor) -> torch.Tensor:
    """Push towards where the pole falls: logits ``[N,2]`` of ``obs[N,4]``."""
    lean = 20.0 * (obs @ LEAN)
    return torch.stack([-lean, lean], dim=1)


def hasty(obs: torch.Tensor) -> torch.Tensor:
    """Look at the angle alone, which balances for a while."""
    lean = 20.0 * obs[:, 2]
    return torch.stack([-lean, lean], dim=1)


def stubborn(obs: torch.Tensor) -> torch.Tensor:
    """Always push to the left."""
    return torch.tensor([1.0, -1.0]).expand(len(obs), 2)


def adversary(obs: torch.Tensor) -> torch.Tensor:
    """Do the opposite of what is good."""
    return -good(obs)


def main() -> None:
    """Distil with the selector choosing a teacher for each episode; say whom it chose."""
    teachers = [stubborn, hasty, adversary, good]
    outcome = tt.distill(
        teachers,
        "CartPole-v1",
        "mlp:16",
        head=tt.Categorical(2),
        selector="ucb1",
        num_envs=4,
        env_steps=20_000,
        teacher_acts="1:0:15000",
        seed=1,
    )
    paid = read_log(outcome.folder / "selections.jsonl").feedback
    for number, teacher in enumerate(teachers):
        mine = paid.arm == number
        print(f"{teacher.__name__}: {mine.sum()} episodes, pay {paid.reward[mine].mean():.2f}")
    print(f"student: {outcome.result['mean_return']:.1f}")


if __name__ == "__main__":
    main()
