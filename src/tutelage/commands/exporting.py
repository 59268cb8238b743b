"""``tutelage export``: a policy taken elsewhere, with the proof that it is the same policy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from tyro.conf import Positional, arg

from tutelage import api, threads
from tutelage.commands import display
from tutelage.configs import Count, Seed, Share
from tutelage.evaluation import MAX_STEPS
from tutelage.report.contract import facts


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write a policy for another runtime, with its contract and the proof that it acts the same."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A bundled name, a model file or a run's folder; perhaps with wrappers: dqn.zip+scale:2."""
    to: str
    """The format, or your own as MODULE:NAME."""
    out: str
    """The folder to be made."""
    env: str = "auto"
    """auto: what the model was made for; else an Atari ROM's name or a Gymnasium id."""
    states: Annotated[int, Meta(ge=1, le=10**8)] = 10_000
    """States that the policy visits, over which actions are compared."""
    episodes: Count = 30
    """Episodes that policy and file play from the same starts."""
    max_steps: Annotated[int, Meta(ge=1, le=10**9)] = MAX_STEPS
    """Env steps after which an episode is cut."""
    min_agreement: Annotated[float | None, Meta(ge=0.0, le=1.0)] = None
    """Least share of equal actions (of a Box: 1 less the largest error in units of its range).
    None: 0.999, and 0.99 in eight bits, where a return that is not inferior will do instead."""
    margin: Share = 0.05
    """Share of the policy's mean return by which that of a file in eight bits may be lower."""
    seed: Seed = 0
    """Seed of the episodes' starts."""
    json: bool = False
    """Print exactly one JSON object on stdout."""

    def run(self) -> None:
        with threads.owning(1), display.notes() as note:
            contract = api.export(
                self.model,
                self.to,
                self.out,
                env=self.env,
                states=self.states,
                episodes=self.episodes,
                max_steps=self.max_steps,
                min_agreement=self.min_agreement,
                margin=self.margin,
                seed=self.seed,
                note=note,
            )
        if self.json:
            display.answer(contract)
            return
        said = {"file": str(Path(self.out) / contract["file"]), **facts(contract)}
        if contract["page"] is None:
            said["page"] = "none: that needs Jinja2, pip install 'tutelage[report]'"
        display.facts(said)
