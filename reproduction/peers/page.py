"""``distillbench.md``, made from the rows alone."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from reproduction.peers.jobs import JOBS, MARGIN, METHODS, SB3_DISTILL
from reproduction.peers.running import chosen
from reproduction.records import Record, grouped
from tutelage.sweeps.statistics import CONFIDENCE, Interval, difference

HEAD = """# DistillBench

Made by `python -m reproduction.peers --docs docs` from `results/distillbench/*.jsonl`; not typed.

Tutelage beside the libraries that people would take instead: the same frozen teachers, the same
environments, students of the same widths, as many env steps, the same seeds, and one judge, which
is Tutelage's evaluation."""

TERMS = """**What was decided before the runs.** The measure is the mean return of a student over
50 greedy episodes (Pong: 20), from the same starts for all. A method's return is the mean over
its seeds, with a 95 % t interval. Methods are compared at equal budgets of env steps, each by
its own settings and, beside, each as tuned. One is better where Welch's interval of the
difference leaves out 0. The two are as good as equal where the whole interval lies within the
margin, 5 % of what the teacher's play is above random play. Anything else is not settled. No
comparison is corrected for how many there are. Seconds are the processor's, on one thread, of
distilling alone: the teacher's and the environment's are among them, evaluation is not. Students
are compared as they are at the end of their budget; none is chosen among several. In the
figures, bars are these intervals, the dashed line is the teacher, and what is far below random
play is cut off. Seeds 1 to 3 ran on one machine, but for DAgger and for d3rlpy on HalfCheetah;
these and later seeds ran on another, so that seconds are only roughly comparable. Ten seeds are
planned for each method, by its own settings and as tuned; what has no row yet is in no table."""

OURS = "tutelage"
BESIDE = "tutelage-4"
"""Shown, but compared with nothing: it was tried once the first figures were seen."""


@dataclass(frozen=True)
class Entry:
    """A method on a job by one choice of settings: its rows, budget by budget."""

    method: str
    tuned: bool
    settings: Mapping[str, object]
    rows: Mapping[int, Sequence[Record]]

    @property
    def title(self) -> str:
        """What it is called in a table."""
        return METHODS[self.method].title + ", tuned" * self.tuned

    def means(self, budget: int) -> list[float]:
        """Return the mean return of each seed."""
        return [float(np.mean(row["returns"])) for row in self.rows.get(budget, ())]


@dataclass(frozen=True)
class Comparison:
    """Tutelage less another method, at a budget."""

    job: str
    budget: int
    other: Entry
    ours: float
    theirs: float
    apart: Interval
    margin: float

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if not math.isfinite(self.apart.high):
            return "not settled"
        if self.apart.low > 0.0:
            return "Tutelage is better"
        if self.apart.high < 0.0:
            return "the other is better"
        within = -self.margin <= self.apart.low and self.apart.high <= self.margin
        return "as good as equal" if within else "not settled"


def mean_of(values: Sequence[float]) -> Interval:
    """Return the mean of seeds and its t interval, which a single one has not."""
    middle = float(np.mean(values))
    if len(values) < 2:
        return Interval(middle, -math.inf, math.inf)
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2.0, len(values) - 1) * stats.sem(values))
    return Interval(middle, middle - reach, middle + reach)


def shown(interval: Interval) -> str:
    """Return a return and its interval, as a table has them."""
    if not math.isfinite(interval.high):
        return f"{interval.middle:,.1f}"
    return f"{interval.middle:,.1f} ({interval.low:,.1f} … {interval.high:,.1f})"


def entries(job: str, rows: Sequence[Record], tuning: Sequence[Record]) -> list[Entry]:
    """Return what has rows: each method by its own settings, then as tuned, where they differ."""
    found = []
    of_job = [row for row in rows if row["job"] == job and "method" in row]
    for method in METHODS:
        best = chosen(job, method, tuning)
        for tuned, settings in ((False, {}), (True, best)):
            if settings is None or (tuned and not settings):
                continue
            by_budget: dict[int, list[Record]] = {}
            for row in of_job:
                if row["method"] == method and row["settings"] == settings:
                    by_budget.setdefault(row["budget"], []).append(row)
            if by_budget:
                found.append(Entry(method, tuned, settings, by_budget))
    return found


def references(job: str, rows: Sequence[Record]) -> dict[str, float]:
    """Return the mean returns of the teacher and of random play, as far as they are known."""
    return {
        row["what"]: float(np.mean(row["returns"]))
        for row in rows
        if row["job"] == job and "what" in row
    }


def as_tuned(found: Sequence[Entry], job: str, tuning: Sequence[Record]) -> list[Entry]:
    """Return each method by the settings that were chosen for it, its own ones among them."""
    return [of for of in found if of.tuned or chosen(job, of.method, tuning) == {}]


def comparisons(
    job: str, found: Sequence[Entry], teacher: float, random: float
) -> Iterator[Comparison]:
    """Yield Tutelage beside every other entry, budget by budget."""
    ours = next((of for of in found if of.method == OURS), None)
    if ours is None:
        return
    for budget in JOBS[job].budgets:
        for other in found:
            if other.method in (OURS, BESIDE) or not (theirs := other.means(budget)):
                continue
            if mine := ours.means(budget):
                yield Comparison(
                    job,
                    budget,
                    other,
                    float(np.mean(mine)),
                    float(np.mean(theirs)),
                    difference(mine, theirs),
                    MARGIN * (teacher - random),
                )


def page(rows: Sequence[Record], tuning: Sequence[Record]) -> str:
    """Return ``distillbench.md``."""
    own: list[Comparison] = []
    tuned: list[Comparison] = []
    sections = []
    for job in JOBS:
        found, known = entries(job, rows, tuning), references(job, rows)
        if not found or set(known) != {"teacher", "random"}:
            continue
        by_own = [of for of in found if not of.tuned]
        here = list(comparisons(job, by_own, known["teacher"], known["random"]))
        own += here
        chosen_ones = as_tuned(found, job, tuning)
        tuned += comparisons(job, chosen_ones, known["teacher"], known["random"])
        sections.append(section(job, found, known, here))
    return "\n".join(
        [
            HEAD,
            "",
            *summary("Each by its own settings", own),
            *summary("Each as tuned", tuned),
            TERMS,
            "",
            *sections,
            methods_section(rows),
            tuning_section(tuning),
            LEFT_OUT,
            made_with(rows),
        ]
    )


def summary(what: str, compared: Sequence[Comparison]) -> list[str]:
    """Say who is better, the others first."""
    if not compared:
        return []
    by: dict[str, list[Comparison]] = {}
    for one in compared:
        by.setdefault(one.verdict, []).append(one)
    lost = by.get("the other is better", [])
    counts = ", ".join(
        f"{word} in {len(by.get(verdict, []))}"
        for verdict, word in (
            ("Tutelage is better", "Tutelage is better"),
            ("as good as equal", "they are as good as equal"),
            ("not settled", "nothing is settled"),
        )
    )
    opening = (
        f"**{what}.** Of {len(compared)} comparisons another library is better in {len(lost)}, "
        f"{counts}."
    )
    open_ones = by.get("not settled", [])
    ahead = [one for one in open_ones if one.apart.middle < -one.margin]
    lines = [textwrap.fill(opening, 100), ""]
    for title, of in (
        ("Better than Tutelage:", lost),
        ("Not settled, but ahead of it by more than the margin:", ahead),
    ):
        if of:
            lines += [title, "", *(f"- {told(one)}" for one in of), ""]
    return lines


def told(one: Comparison) -> str:
    """Say what a comparison came to."""
    more = Interval(-one.apart.middle, -one.apart.high, -one.apart.low)
    return (
        f"{one.other.title} on {JOBS[one.job].title} at {one.budget:,} env steps: "
        f"{one.theirs:,.1f} to {one.ours:,.1f}, by {shown(more)}"
    )


def section(
    job: str, found: Sequence[Entry], known: Mapping[str, float], compared: Sequence[Comparison]
) -> str:
    """Return a job's tables and figure."""
    of = JOBS[job]
    head = [
        "method",
        "seeds",
        *(f"return at {budget:,}" for budget in of.budgets),
        "env steps",
        "seconds",
        "parameters",
    ]
    lines = [" | ".join(["", *head, ""]).strip(), "|" + " --- |" * len(head)]
    for one in found:
        cells = [
            one.title,
            ", ".join(sorted({str(len(rows)) for rows in one.rows.values()})),
            *(shown(mean_of(v)) if (v := one.means(b)) else "" for b in of.budgets),
            " / ".join(_mean(one, b, "env_steps") for b in of.budgets if b in one.rows),
            " / ".join(_mean(one, b, "cpu_seconds") for b in of.budgets if b in one.rows),
            f"{next(iter(one.rows.values()))[0]['parameters']:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    text = (
        f"Teacher {known['teacher']:,.1f}, random play {known['random']:,.1f}; the margin is "
        f"{MARGIN * (known['teacher'] - known['random']):,.1f}. The student is `{of.student}`."
    )
    return f"""## {of.title}

{text}

{chr(10).join(lines)}

{differences(of.budgets, compared)}![{of.title}](images/distillbench-{job}.png)
"""


def differences(budgets: Sequence[int], compared: Sequence[Comparison]) -> str:
    """Return a table of Tutelage less each other method; nothing where none is compared."""
    if not compared:
        return ""
    by = {(one.other.title, one.budget): one for one in compared}
    lines = [
        f"| {title} | " + " | ".join(_cell(by.get((title, budget))) for budget in budgets) + " |"
        for title in dict.fromkeys(one.other.title for one in compared)
    ]
    return f"""By how much Tutelage's return is above, by own settings; what is settled is bold:

| above | {" | ".join(f"at {budget:,}" for budget in budgets)} |
|{" --- |" * (len(budgets) + 1)}
{chr(10).join(lines)}

"""


def _cell(one: Comparison | None) -> str:
    if one is None:
        return ""
    return shown(one.apart) if one.verdict == "not settled" else f"**{shown(one.apart)}**"


def _mean(one: Entry, budget: int, name: str) -> str:
    return f"{np.mean([row[name] for row in one.rows[budget]]):,.0f}"


def methods_section(rows: Sequence[Record]) -> str:
    """Say what each library is run with."""
    versions: dict[str, Mapping[str, str]] = {}
    for row in rows:
        if "peer" in row:
            versions[METHODS[row["method"]].python] = row["peer"]
    lines = []
    for name, of in versions.items():
        if name:
            listed = ", ".join(f"{package} {version}" for package, version in of.items())
            lines.append(textwrap.fill(f"- `{name}`: {listed}", 100, subsequent_indent="  "))
    return f"""{HOW}
{chr(10).join(lines)}
"""


def tuning_section(tuning: Sequence[Record]) -> str:
    """Return what was tried on the seed for tuning, and what was chosen."""
    lines = []
    for job, method in grouped(tuning, "job", "method"):
        best = chosen(job, method, tuning)
        if best is None:
            continue
        tried = [row for row in tuning if (row["job"], row["method"]) == (job, method)]
        returns = "; ".join(
            f"{_settings(row['settings'])} {np.mean(row['returns']):,.1f}" for row in tried
        )
        lines.append(
            f"| {JOBS[job].title} | {METHODS[method].title} | {_settings(best)} | {returns} |"
        )
    if not lines:
        return ""
    return f"""## What was tuned

Of each method all combinations of two learning rates and two numbers of updates were tried, its
own among them, with a seed of their own (0), at the budget of 10,000 env steps (HalfCheetah:
30,000). The one that returned most was taken for all budgets and seeds.

| policy | method | chosen | all that was tried, and its return |
| --- | --- | --- | --- |
{chr(10).join(lines)}
"""


def _settings(settings: Mapping[str, object]) -> str:
    if not settings:
        return "its own"
    return " ".join(f"{name}={value}" for name, value in settings.items())


HOW = f"""## How each is run

Each library runs by its own code, in a virtual environment of its own, in a process of its own on
one thread; nothing of it is in this repository but the drivers that call it
(`reproduction/peers/drivers/`). All get the same files as teachers. A library's students are
written as TorchScript files of what acts, and played by Tutelage in the same versions of the
environments.

- **Tutelage**: `tutelage.distill` with its defaults of then for the student, 16 environments among
  them, and nothing evaluated on the way. Its seconds include the reading of the teacher, setting
  up, two episodes of play at the end, and all files of a run. "4 environments" is `--num-envs 4`,
  which was added when the first seed had shown the defaults behind at 2,000 env steps. Where 16
  environments share 2,000 env steps each of them plays 128, while the PPO teacher's episodes of
  LunarLander take 384 in the median of 50, so that no landing is seen. It is in the tables and
  figures, not among the comparisons. Since these runs 4 are the default below 8,000 env steps.
- **sb3_distill** ([StudentDistill and Proximal Policy
  Distillation](https://github.com/spiglerg/sb3_distill), commit {SB3_DISTILL[:7]}): the defaults of
  its classes, one environment. It asks a teacher for `get_distribution` and `predict_values`, which
  of Stable-Baselines3's models PPO and A2C have. A DQN says its Q-values over 0.1 as logits, as
  Tutelage reads them, and the largest as its value. A SAC says a normal distribution around its
  greedy action with a standard deviation of 0.1, and the lesser of its critics. The network of Pong
  says logits, and a value of 0. PPD learns from reward as well, which no other method here sees.
- **imitation** ([BC and DAgger](https://github.com/HumanCompatibleAI/imitation)): batches of 32,
  Adam at 1e-3, four epochs; DAgger is `SimpleDAggerTrainer`. It pins Gymnasium 0.29, whose
  LunarLander is v2 and whose HalfCheetah is v4: it learns there, and its students are played in v3
  and v5 as all others.
- **d3rlpy** ([BC, DiscreteBC](https://github.com/takuseno/d3rlpy)): batches of 100, Adam at 1e-3,
  ReLU; 10,000 updates whatever the budget. That number is ours, for it has no default; its README
  has examples with 100,000 and more.

The two that clone learn from the teacher's greedy play. Widths are the same; activations are each
library's own (tanh of sb3_distill and imitation, ReLU of Tutelage and d3rlpy). A budget ends where
a library's own rhythm lets it: with a round of 1,024 env steps, a rollout of 2,048 (PPD), or a
round of episodes (DAgger). "Env steps" has what was spent.

```sh
python3 -m venv runs/peers-envs/sb3_distill
runs/peers-envs/sb3_distill/bin/pip install torch==2.13.0 stable-baselines3==2.9.2 \\
  gymnasium==1.4.0 Box2D pygame-ce mujoco==4.0.0 imageio ale-py==0.12.1 \\
  opencv-python-headless packaging 'git+https://github.com/spiglerg/sb3_distill@{SB3_DISTILL[:7]}'
python3 -m venv runs/peers-envs/imitation
runs/peers-envs/imitation/bin/pip install torch==2.13.0 imitation==1.0.1 Box2D pygame \\
  mujoco==3.17.0 imageio \\
  ale-py==0.9.1 opencv-python-headless numpy==2.4.6
python3 -m venv runs/peers-envs/d3rlpy
runs/peers-envs/d3rlpy/bin/pip install torch==2.13.0 d3rlpy==2.8.1 \\
  stable-baselines3==2.9.2 Box2D pygame mujoco==4.0.0 imageio \\
  ale-py==0.10.1 opencv-python-headless
python -m reproduction.peers FOLDER --seeds 1 2 3 --tune
```

The versions that were used:
"""

LEFT_OUT = """## What is left out

**CleanRL's QDagger** is a script for Atari (`qdagger_dqn_atari_impalacnn.py`). It downloads its
teacher from a hub, into the class of CleanRL's own DQN, a network without normalisation; the
teacher here has layer normalisation. Its student is an IMPALA network of fixed widths, its
preprocessing has no sticky actions, and it plays 500,000 env steps of the teacher's before the
student's first. At the budgets and widths of this page it would have to be rewritten, and would no
longer be its authors' code. So it is not run.
"""


def made_with(rows: Sequence[Record]) -> str:
    """Return at which commits and on which machines the rows were made."""
    commits = sorted({row["versions"]["commit"][:7] for row in rows})
    machines = sorted({row["versions"]["machine"] for row in rows})
    return (
        textwrap.fill(
            f"At {', '.join(commits)}, on {'; '.join(machines)}; other programs ran beside.", 100
        )
        + "\n"
    )
