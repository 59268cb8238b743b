"""A policy of Stable-Baselines3 becomes a student of a fraction of its size.

pip install stable-baselines3; python examples/sb3_policy.py [policy.zip ENV]
"""

import sys

import gymnasium

import tutelage as tt


def train(path: str) -> None:
    """Write a PPO that balances CartPole's pole."""
    from stable_baselines3 import PPO

    ppo = PPO("MlpPolicy", "CartPole-v1", n_steps=512, learning_rate=1e-3, seed=1, device="cpu")
    ppo.learn(20_000).save(path)


def main(teacher: str, env: str) -> None:
    """Distil the policy, compare the two, and play the student in an environment of one's own."""
    outcome = tt.distill(teacher, env, "mlp:16", env_steps=10_000, seed=1)
    student, theirs = outcome.result, outcome.result["teacher"]
    for name, player in (("teacher", theirs), ("student", student)):
        print(f"{name}: {player['mean_return']:.1f} with {player['parameters']:,} parameters")

    game = gymnasium.make(env)
    player = tt.Player(outcome.folder, game)
    obs, _ = game.reset(seed=7)
    total, over = 0.0, False
    while not over:
        obs, reward, terminated, truncated, _ = game.step(player.act(obs))
        total, over = total + float(reward), terminated or truncated
    print(f"one episode of your own: {total:.1f}")
    print(f"the student is in {outcome.folder}")


if __name__ == "__main__":
    if sys.argv[1:]:
        main(*sys.argv[1:])
    else:
        train("ppo.zip")
        main("ppo.zip", "CartPole-v1")
