"""A loss of one's own, from outside of the package, beside the usual one on equal terms.

    python examples/own_loss.py

``confident`` is Kullback and Leibler's divergence, with states weighted by how sure the teacher is.
"""

import math
import sys
from pathlib import Path

import torch

import tutelage as tt

sys.path.insert(0, str(Path(__file__).parent))  # where the loss is found by its name


def confident(out: torch.Tensor, target: torch.Tensor, head: tt.Head) -> torch.Tensor:
    """Return w(target) KL(target, out), ``[B]``; w is 1 less the entropy in units of its most."""
    p = target.softmax(dim=1)
    entropy = torch.special.entr(p).sum(dim=1) / math.log(target.shape[1])
    weighted: torch.Tensor = (1.0 - entropy) * tt.kl(out, target, head)
    return weighted


def teacher(obs: torch.Tensor) -> torch.Tensor:
    """Balance CartPole's pole: logits ``[N,2]`` of ``obs[N,4]``."""
    lean = 5.0 * (obs @ torch.tensor([0.05, 0.2, 1.0, 0.6]))
    return torch.stack([-lean, lean], dim=1)


def main() -> None:
    """Distil once by each loss."""
    for loss in ("kl", "own_loss:confident"):
        outcome = tt.distill(
            teacher,
            "CartPole-v1",
            "mlp:8",
            head=tt.Categorical(2),
            loss=loss,
            env_steps=10_000,
            seed=1,
        )
        print(f"{loss}: {outcome.result['mean_return']:.1f}")


if __name__ == "__main__":
    main()
