"""One network for several tasks: its outputs are shared out among them.

In a file of several tasks ``FILE+task:NAME`` is one of them, a network like any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch
from torch import Tensor

from tutelage.errors import UserError, choose_from
from tutelage.files import convert, load_tensors, save_tensors
from tutelage.heads import Categorical, Head, describe_head, parse_head
from tutelage.models import TASKS_FORMAT, Header, Said, load_network, model_from, network_of
from tutelage.networks import Network
from tutelage.policies import Function, Model, Policy

Outputs = Literal["own", "shared"]


@dataclass(frozen=True)
class Task:
    """Where a network of several tasks plays, and which of its outputs it has there."""

    name: str
    env: str
    head: Head
    columns: tuple[int, ...]
    """Of the network's outputs ``[B,M]``, those that are the ``L`` of this task's head."""
    card: Mapping[str, Any] = field(default_factory=dict)

    def out(self, outputs: Tensor) -> Tensor:
        """Return what the network says of this task, ``[B,M] -> [B,L]``."""
        return outputs[:, list(self.columns)]

    def policy(self, network: Network) -> Policy:
        """Return the network as it plays this task, whatever it still learns."""
        return Function(lambda obs: self.out(network(obs)), self.head)


def shared_out(
    outputs: Outputs, heads: Sequence[Head], places: Sequence[Sequence[int]]
) -> list[tuple[int, ...]]:
    """Return which outputs of a network each task has.

    ``own``: outputs of its own. ``shared``: those of its actions, ``places[i][a]`` being the place
    of task i's action a among all that there are. Raises UserError where these are no actions to
    choose from, but numbers.
    """
    if outputs == "own":
        ends = list(accumulate(head.size for head in heads))
        return [tuple(range(end - head.size, end)) for head, end in zip(heads, ends, strict=True)]
    if any(len(place) != head.size for head, place in zip(heads, places, strict=True)):
        raise UserError("outputs shared are for discrete actions: choose outputs own")
    return [tuple(place) for place in places]


def network_for(network: Network, task: Task) -> Network:
    """Return a network that plays one task alone, with a copy of the weights it needs."""
    with torch.device("meta"):  # nothing is drawn
        alone = Network(network.size, network.obs_shape, task.head)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name in ("output.weight", "output.bias"):
        weights[name] = weights[name][list(task.columns)]
    alone.load_state_dict(weights, assign=True)
    return alone.eval().requires_grad_(False)


class Listed(msgspec.Struct):
    """What a file says of one task."""

    name: str
    env: str
    head: dict[str, Any]
    columns: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(min_length=1)]
    card: dict[str, Any]


class TasksHeader(Said):
    """What the file of a network of several tasks says of itself."""

    size: str
    tasks: Annotated[list[Listed], msgspec.Meta(min_length=1)]


def save_tasks(
    path: Path, network: Network, tasks: Sequence[Task], *, card: Mapping[str, Any]
) -> None:
    """Write a network with its tasks as safetensors."""
    about = {
        "format": TASKS_FORMAT,
        "size": str(network.size),
        "obs_shape": list(network.obs_shape),
        "head": describe_head(network.head),
        "env": "",
        "tasks": [
            {
                "name": task.name,
                "env": task.env,
                "head": describe_head(task.head),
                "columns": list(task.columns),
                "card": dict(task.card),
            }
            for task in tasks
        ],
        "card": dict(card),
    }
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_tensors(path, weights, about)


def amend_cards(path: Path, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the facts of each task on its card in a file; its numbers stay as they are."""
    tensors, about = load_tensors(path)
    tasks = [{**one, "card": {**one["card"], **facts[one["name"]]}} for one in about["tasks"]]
    save_tensors(path, tensors, {**about, "tasks": tasks})


def read_tasks(path: Path) -> tuple[Network, list[Task]]:
    """Return the network of a file of several tasks, and these.

    Raises UserError if the file is of another kind, or damaged.
    """
    tensors, about = load_tensors(path)
    if about.get("format") != TASKS_FORMAT:
        raise UserError(f"{path} is of one task only: leave +task: out")
    said = convert({k: v for k, v in about.items() if k != "format"}, TasksHeader, path)
    header = Header(
        obs_shape=said.obs_shape, head=said.head, env="", card=said.card, size=said.size
    )
    network = network_of(path, tensors, header)
    tasks = [
        Task(one.name, one.env, parse_head(one.head), one.columns, one.card) for one in said.tasks
    ]
    for task in tasks:
        most = network.head.size
        if len(task.columns) != task.head.size or max(task.columns) >= most:
            raise UserError(
                f"{path}: task {task.name} has outputs {list(task.columns)}, expected "
                f"{task.head.size} below {most}"
            )
    return network, tasks


def load_task(path: Path, name: str) -> Model:
    """Return the network that plays the task ``name`` of a file; raise UserError as above."""
    network, tasks = read_tasks(path)
    known = {task.name: task for task in tasks}
    if name not in known:
        raise choose_from(f"task of {path}", name, known)
    return model_for(path, network, known[name])


def model_for(path: Path, network: Network, task: Task) -> Model:
    """Return the network that plays one task alone, with what its file says of the task."""
    return model_from(path, network_for(network, task), env=task.env, card=task.card)


def models_in(path: Path) -> dict[str, Model]:
    """Return the network of a file by an empty name, or those of its tasks, as ``+task:NAME``.

    Raises UserError as above.
    """
    _, about = load_tensors(path)
    if about.get("format") != TASKS_FORMAT:
        return {"": load_network(path)}
    network, tasks = read_tasks(path)
    return {f"+task:{task.name}": model_for(path, network, task) for task in tasks}


def outputs_of(columns: Sequence[Sequence[int]]) -> Head:
    """Return a head of as many numbers as a network for these tasks says."""
    return Categorical(1 + max(map(max, columns)))
