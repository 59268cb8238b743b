"""An exported policy decides in a browser, for a real environment, as it does here.

Needs Chromium and ``npm ci`` in examples/browser, which ``.ci/run`` sees to.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import tutelage as tt
from tests.players import controller

PAGE = Path(__file__).parents[1] / "examples" / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
LACKS = not CHROMIUM or not (PAGE / "node_modules" / "onnxruntime-web").is_dir()
QUIETLY = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

pytestmark = pytest.mark.skipif(
    LACKS and not os.environ.get("BROWSER_TESTS"),
    reason="needs chromium and npm ci in examples/browser",
)


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve", PAGE / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["serve"] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def browsing(url: str, folder: Path) -> Iterator[None]:
    words = [CHROMIUM, *QUIETLY, f"--user-data-dir={folder}", url]
    with subprocess.Popen(
        [*words, "--remote-debugging-port=0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as browser:
        try:
            yield
        finally:
            browser.kill()


def result(server: Any, url: str, folder: Path) -> dict[str, Any]:
    """Return what the page says of its game once it is over."""
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        with browsing(url.format(port=server.server_address[1]), folder):
            until = time.monotonic() + 120.0
            while not server.results and time.monotonic() < until:
                time.sleep(0.1)
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
    assert server.results, "the page said nothing for two minutes"
    return dict(server.results[0])


def test_the_browser_plays_pong_as_the_student_does(page: ModuleType, tmp_path: Path) -> None:
    tt.export("pong-small-1", "onnx", tmp_path / "out", states=64, episodes=1, max_steps=64)
    server = page.Server(tmp_path / "out", page.Table(tt.load("pong-small-1"), seed=1), port=0)
    said = result(server, "http://127.0.0.1:{port}/?fast&steps=300", tmp_path / "browser")
    assert said["steps"] == said["same"] == 300
    assert said["score"] == said["own"] >= 1.0


def test_the_browser_balances_the_pole_to_the_end(page: ModuleType, tmp_path: Path) -> None:
    model = tt.load(controller(tmp_path / "pole.safetensors"))
    tt.export(model, "onnx", tmp_path / "out", states=64, episodes=1, max_steps=64)
    server = page.Server(tmp_path / "out", page.Table(model, seed=1), port=0)
    said = result(server, "http://127.0.0.1:{port}/?fast", tmp_path / "browser")
    assert (said["steps"], said["same"], said["score"], said["own"]) == (500, 500, 500.0, 500.0)


def test_an_action_in_the_environments_numbers_is_turned_back(page: ModuleType) -> None:
    like = np.zeros((1, 2), np.float32)
    box = spaces.Box(np.array([0.0, -2.0], np.float32), np.array([4.0, 2.0], np.float32))
    assert page.head_action(np.array([4.0, 0.0]), box, like).tolist() == [[1.0, 0.0]]
    third = page.head_action(np.array([3]), spaces.Discrete(3, start=1), np.zeros(1, np.int64))
    assert third.tolist() == [2]
