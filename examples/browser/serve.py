"""Serve a page on which a browser plays, by an exported policy, a real environment.

``python serve.py EXPORTED [MODEL]`` after ``npm ci``: EXPORTED is a folder that ``tutelage export
--to onnx`` wrote, MODEL what it was made from (by default as its contract says). The environment
runs here; all decisions of the game on the left are made in the browser, by onnxruntime-web. On the
right the model itself plays from the same start.
"""

import base64
import json
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

import tutelage as tt
from tutelage.domains import camera, environment_of, make
from tutelage.types import Array

HERE = Path(__file__).parent
ORT = HERE / "node_modules" / "onnxruntime-web" / "dist"
STREAM = "evaluation"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
}


class Game:
    """One episode, seen as a policy sees it and, where that can be drawn, as a person does."""

    def __init__(self, config: tt.EnvironmentConfig, seed: int) -> None:
        self._config, self._seed = replace(config, num_envs=1), seed
        self.begin()

    def begin(self) -> None:
        """Begin the episode again, from the same start."""
        self.envs = make(self._config, seed=self._seed, stream=STREAM, threads=1)
        self._camera = None
        with suppress(tt.UserError):
            self._camera = camera(self._config, seed=self._seed, stream=STREAM)
        self.score, self.over = 0.0, False

    def step(self, action: Array) -> None:
        """Take one action of a head, ``[1,*A]``."""
        step = self.envs.step(action)
        if self._camera is not None:
            self._camera.step(action)
        self.score += float(step.reward[0])
        self.over = bool(step.terminated[0] or step.truncated[0])

    def frame(self) -> Array | None:
        """Return what a person sees, ``[height,width,3]``; None where nothing can be drawn."""
        return None if self._camera is None else self._camera.obs[0]


class Table:
    """The browser's game, and beside it that of the model itself."""

    def __init__(self, model: tt.Model, seed: int) -> None:
        self._policy = model.policy
        config = environment_of(model.env, model.obs_shape, model.card)
        self._theirs, self._ours = Game(config, seed), Game(config, seed)
        self.begin()

    def begin(self) -> dict[str, Any]:
        """Begin both games; return what there is to see."""
        self._theirs.begin()
        self._ours.begin()
        self._asked, self._carry = self._policy.initial(1), self._policy.initial(1)
        return self._seen(same=None)

    def step(self, action: list[float]) -> dict[str, Any]:
        """Take the browser's action, in the environment's own numbers; return what comes of it."""
        chosen, self._asked = self._choose(self._theirs, self._asked)
        taken = head_action(np.asarray(action), self._theirs.envs.action_space, chosen)
        same = bool(np.allclose(taken, chosen, atol=1e-4))
        self._theirs.step(taken)
        if not self._ours.over:
            own, self._carry = self._choose(self._ours, self._carry)
            self._ours.step(own)
        return self._seen(same)

    def _choose(self, game: Game, carry: Any) -> tuple[Array, Any]:
        with torch.inference_mode():
            out, carry = self._policy.step(torch.from_numpy(game.envs.obs), carry)
            return self._policy.head.mode(out).numpy(), carry

    def _seen(self, same: bool | None) -> dict[str, Any]:
        return {
            "obs": encoded(self._theirs.envs.obs),
            "frame": picture(self._theirs.frame()),
            "score": self._theirs.score,
            "over": self._theirs.over,
            "same": same,
            "own": {"frame": picture(self._ours.frame()), "score": self._ours.score},
        }


def head_action(given: Array, space: spaces.Space[Any], like: Array) -> Array:
    """Return an action in the environment's own numbers as a head has it, ``[1,*A]``."""
    if isinstance(space, spaces.Box):
        given = 2.0 * (given.reshape(space.shape) - space.low) / (space.high - space.low) - 1.0
    elif isinstance(space, spaces.Discrete):
        given = given - space.start
    return given.reshape(like.shape).astype(like.dtype)


def encoded(numbers: Array) -> str:
    """Return the bytes of an array in base64."""
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()


def picture(frame: Array | None) -> dict[str, Any] | None:
    """Return a frame ``[height,width,3]`` as the page draws it."""
    if frame is None:
        return None
    return {"height": frame.shape[0], "width": frame.shape[1], "rgb": encoded(frame)}


class Server(ThreadingHTTPServer):
    """The page, the exported folder, the runtime and the games; for this machine alone."""

    def __init__(self, exported: Path, table: Table, port: int = 8000) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.files = {f"/policy/{path.name}": path for path in exported.iterdir()}
        self.files |= {f"/ort/{path.name}": path for path in ORT.iterdir()}
        self.files |= {f"/{name}": HERE / name for name in ("index.html", "play.js")}
        self.table = table
        self.lock = threading.Lock()
        self.results: list[Mapping[str, Any]] = []
        """What pages said of games that were over."""


class Handler(BaseHTTPRequestHandler):
    """Hands out files by their names, and steps the games."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        path = self.server.files.get("/index.html" if name == "/" else name)
        if path is None or not path.is_file():
            self._answer(404, "text/plain", b"no such file")
        else:
            self._answer(200, KINDS.get(path.suffix, "application/octet-stream"), path.read_bytes())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "null")
        with self.server.lock:
            said: dict[str, Any] = {}
            if self.path == "/begin":
                said = self.server.table.begin()
            elif self.path == "/step":
                said = self.server.table.step(body)
            else:
                self.server.results.append(body)
        self._answer(200, "application/json", json.dumps(said).encode())

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of single requests."""


def main() -> None:
    """Serve until Ctrl-C."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python serve.py EXPORTED [MODEL]")
    exported = Path(sys.argv[1])
    if not (exported / "contract.json").is_file():
        sys.exit(f"{exported} holds no contract.json: write it by tutelage export --to onnx")
    if not ORT.is_dir():
        sys.exit(f"onnxruntime-web is not installed: run npm ci in {HERE}")
    contract = json.loads((exported / "contract.json").read_text())
    named = sys.argv[2] if len(sys.argv) == 3 else contract["model"]["name"]
    try:
        server = Server(exported, Table(tt.load(named), seed=1))
    except tt.UserError as error:
        sys.exit(str(error))
    print("http://127.0.0.1:8000")
    with suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
