"""The contract of an exported file, for a person: what goes in, what comes out, what was proved."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tutelage.errors import counted
from tutelage.report.blocks import Settings, Table
from tutelage.report.page import Section, write_page
from tutelage.text import alike, without_folders

PAGE = "contract.html"


def facts(contract: Mapping[str, Any]) -> dict[str, str]:
    """Return what a person wants to know of an exported file, by name."""
    proof = contract["proof"]
    theirs, ours = alike(proof["return_exported"], proof["return"])
    difference, low, high = alike(proof["return_difference"], *proof["return_difference_ci95"])
    error = proof["largest_action_error"]
    equal = (
        f"{proof['agreement']:.3%} of {proof['states']:,} states"
        if error is None
        else f"off by {error:.2g} of their range at most, in {proof['states']:,} states"
    )
    numbers = contract["numbers"]["output"]
    said = {
        "bytes": f"{contract['files'][contract['file']]['bytes']:,}",
        "actions" if error is not None else "equal actions": equal,
        "largest difference": f"{proof['largest_difference']:.2g} ({numbers})",
        "return": f"{theirs}, the policy's {ours} ({counted(proof['episodes'], 'episode')})",
        "difference": f"{difference} ({low} … {high})",
        "passed by": proof["passed_by"],
        "µs per action": f"{proof['us_per_action_exported']:.1f}, the policy's "
        f"{proof['us_per_action']:.1f} (batch 1, one thread)",
    }
    for key, label in (
        ("flash_bytes", "flash"),
        ("static_ram_bytes", "static RAM"),
        ("stack_bytes", "stack"),
    ):
        if key in contract:
            said[label] = f"{contract[key]:,} bytes"
    return said


def write_contract(folder: Path, contract: Mapping[str, Any]) -> str | None:
    """Write the page; return its name, or None without the package that pages need.

    Raises UserError where the folder cannot be written.
    """
    if find_spec("jinja2") is None:
        return None
    action, observation = contract["action"], contract["observation"]
    ends = [
        {"": "in", "name": observation["input"], **_side(observation)},
        {"": "out", "name": action["output"], **_side(action)},
        {
            "": "out",
            "name": contract["numbers"]["output"],
            "shape": str(contract["numbers"]["size"]),
            "type": "float32",
        },
    ]
    for one in contract["memory"]:
        ends += [
            {"": side, "name": one[f"{side}put"], **_side({**one, "shape": one["shape"][1:]})}
            for side in ("in", "out")
        ]
    parts = [
        {
            "key": one["key"],
            "numbers": f"{one['offset']} … {one['offset'] + one['size'] - 1}",
            "space": one["space"]["kind"],
        }
        for one in observation.get("parts", ())
    ]
    proved = [{"": name, "this file": value} for name, value in facts(contract).items()]
    write_page(
        folder / PAGE,
        title=f"{contract['environment']['env']}: {without_folders(contract['model']['name'])} as "
        f"{contract['format']}",
        sections=[
            Section("What was proved", [Table("Proof", proved, prose=True)]),
            Section("In and out", [Table("In and out", ends)]),
            *([Section("Which numbers are which key", [Table("Parts", parts)])] if parts else []),
            Section("What it sees", [Settings(contract["environment"])]),
            Section("What it does", [Settings(action["space"]), Settings(contract["numbers"])]),
            Section("Where it is from", [Settings(contract["model"])]),
        ],
        settings=dict(contract),
    )
    return PAGE


def _side(of: Mapping[str, Any]) -> dict[str, str]:
    shape = " x ".join(map(str, of["shape"])) or "1"
    return {"shape": shape, "type": str(of["dtype"])}
