"""The tour in a browser, as README opens it: its cells are run, a slider is moved, and picture and answer change."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright, of the test extra").expect

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture
def address(tmp_path, chromium):
    """Jupyter's page of the tour, to run at smoke on the sample with the shipped networks, in a folder of its own."""
    root = tmp_path.resolve()
    shutil.copytree(ROOT / "models", root / "models")
    notebook = nbformat.read(ROOT / "notebooks" / "main.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None) if cell.cell_type == "markdown" else cell.update(outputs=[], execution_count=None)
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = f"PROFILE, SEED, DATA = 'smoke', 0, {str(ROOT / 'data.zip')!r}"
    nbformat.write(notebook, root / "main.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{kind}_DIR": str(root / "jupyter" / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    command = [sys.executable, "-m", "notebook", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={root}"]
    with (root / "server.log").open("w") as log:
        surroundings = {**os.environ, **own, "FASHION_MNIST_ROOT": str(root)}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=surroundings)
    try:
        for _ in range(120):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api").close()
                break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/notebooks/main.ipynb"
    finally:
        server.terminate()
        server.wait(30)


def test_moving_a_slider_changes_the_picture_and_the_answer(address, chromium):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(100_000)
    page.goto(address)
    kernels = address.replace("/notebooks/main.ipynb", "/api/kernels")
    while not any(each["connections"] for each in json.load(urllib.request.urlopen(kernels))):
        page.wait_for_timeout(1000)  # before there is one, Jupyter would ask for which
    page.wait_for_timeout(3000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    picture, words = page.locator(".widget-image"), page.locator(".widget-html-content").last
    picture.wait_for(state="attached")
    page.wait_for_function("document.querySelector('.widget-image').naturalWidth > 500")
    picture.scroll_into_view_if_needed()
    expect(words).to_contain_text("with noise (32 grey levels) it says", timeout=60_000)
    while any(each["execution_state"] != "idle" for each in json.load(urllib.request.urlopen(kernels))):
        page.wait_for_timeout(1000)  # until all cells ran: their outputs move what a pointer is to meet
    before = picture.get_attribute("src")
    page.locator(".widget-slider", has_text="noise").locator(".noUi-base").click(position={"x": 1, "y": 2})
    page.wait_for_function("before => document.querySelector('.widget-image').src !== before", arg=before)
    expect(words).not_to_contain_text("with noise", timeout=60_000)  # a message of its own, after the picture's
    expect(words).to_contain_text("Test image")
    page.close()
