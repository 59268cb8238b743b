"""A student leaves for ONNX Runtime, and plays there without Tutelage and without PyTorch.

pip install 'tutelage[onnx]'; python examples/export_onnx.py
"""

import shutil
import subprocess
import sys

import torch

import tutelage as tt

ALONE = """
import gymnasium, numpy as np, onnxruntime, sys

session = onnxruntime.InferenceSession("exported/policy.onnx")
env = gymnasium.make("CartPole-v1")
obs, _ = env.reset(seed=3)
total, over = 0.0, False
while not over:
    (action,) = session.run(["action"], {"obs": obs[np.newaxis]})[0]
    obs, reward, terminated, truncated, _ = env.step(int(action))
    total, over = total + reward, terminated or truncated
assert not {"tutelage", "torch"} & set(sys.modules)
print(f"without Tutelage: {total:.1f}")
"""


def teacher(obs: torch.Tensor) -> torch.Tensor:
    """Balance CartPole's pole: logits ``[N,2]`` of ``obs[N,4]``."""
    lean = 20.0 * (obs @ torch.tensor([0.05, 0.2, 1.0, 0.6]))
    return torch.stack([-lean, lean], dim=1)


def main() -> None:
    """Distil, export with its proof, and play the file in a process of its own."""
    outcome = tt.distill(
        teacher, "CartPole-v1", "mlp:16", head=tt.Categorical(2), env_steps=10_000, seed=1
    )
    shutil.rmtree("exported", ignore_errors=True)
    contract = tt.export(outcome.folder, "onnx", "exported")
    proof = contract["proof"]
    print(f"equal actions: {proof['agreement']:.2%} of {proof['states']:,} states")
    print(f"observations: {contract['observation']['shape']}")
    subprocess.run([sys.executable, "-c", ALONE], check=True)


if __name__ == "__main__":
    main()
