"""A trained teacher made a model of the zoo: ``python -m reproduction.zoo RUN FILE``.

It is written in half precision. Its card has 100 episodes without sticky actions and with those
that it was trained with, and how long the training took.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tutelage as tt
from tutelage.domains import environment_of
from tutelage.errors import UserError
from tutelage.logs import read_metrics, read_timing
from tutelage.models import find, load_network, save
from tutelage.networks import Network
from tutelage.runs import versions
from tutelage.schema import changed
from tutelage.threads import owning

EPISODES = 100


def keep(run: Path, out: Path) -> Mapping[str, Any]:
    """Write the model that a run's folder keeps to ``out`` and return its card.

    Raises UserError for a run that has no model, and for one of another kind.
    """
    model = load_network(find(run))
    network = model.policy
    assert isinstance(network, Network)
    rows = read_metrics(run)
    returns = [row["rollout/ep_rew_mean"] for row in rows if "rollout/ep_rew_mean" in row]
    card: dict[str, Any] = {
        "command": model.card["command"],
        "config": model.card["config"],
        "env_steps": model.card.get("env_steps", rows[-1]["env_steps"]),
        "training_return": returns[-1],
        "hours": round(read_timing(run)[-1]["time/seconds"] / 3600.0, 2),
        "commit": versions()["commit"],
    }
    # What is played is what is kept: the weights as rounded to half precision.
    save(out, network, env=model.env, card=card, half=True)
    kept = load_network(out)
    made = environment_of(model.env, network.obs_shape, card)
    card |= tt.evaluate(kept, made, episodes=EPISODES, threads=1).summary()
    if made.atari.sticky:
        still = changed(made, sticky=0.0)
        card["sticky_0"] = tt.evaluate(kept, still, episodes=EPISODES, threads=1).summary()
    save(out, network, env=model.env, card=card, half=True)
    return card


def main() -> None:
    """Keep the model of a run."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.zoo", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run of 'tutelage teach'")
    parser.add_argument("out", type=Path, help="the file to write")
    asked = parser.parse_args()
    try:
        with owning(1):
            keep(asked.run, asked.out)
    except UserError as error:
        print(f"reproduction.zoo: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
