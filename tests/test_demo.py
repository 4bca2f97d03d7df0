"""The live demo: who can reach it, what it sends, what it shows. In a browser: test_browser_demo.py."""

import dataclasses
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest

from fashion_mnist import data
from fashion_mnist.headless import cli, demo, expert

needs_gradio = pytest.mark.skipif(not demo.available(), reason="needs Gradio, of the app extra")


@pytest.fixture(scope="module")
def best():
    return expert.Expert(expert.find())


@pytest.fixture
def launched(monkeypatch):
    """What Gradio is asked for, instead of being served."""
    import gradio

    asked = {}
    monkeypatch.setattr(gradio.Blocks, "launch", lambda app, **options: asked.update(options))
    return asked


@needs_gradio
@pytest.mark.parametrize("colab", [False, True], ids=["here", "on Colab"])
def test_nothing_is_shared_and_only_this_machine_is_answered(launched, monkeypatch, colab):
    import gradio

    monkeypatch.setattr(gradio.utils, "colab_check", lambda: colab)
    demo.launch("cnn_seed0")
    assert launched["share"] is False
    assert launched["server_name"] == "127.0.0.1"


@needs_gradio
def test_sharing_has_to_be_asked_for(launched):
    demo.launch("cnn_seed0", host="0.0.0.0", share=True)
    assert launched["share"] is True
    assert launched["server_name"] == "0.0.0.0"


SERVED = """
import socket, sys
real, asked = socket.socket.connect, []
def connect(self, address):
    asked.append(address)
    return real(self, address)
socket.socket.connect = connect
from fashion_mnist.headless import demo
app = demo.launch("mlp_seed0")
import psutil
print("at", app.local_url)
print("listens", *{each.laddr.ip for each in psutil.Process().net_connections() if each.status == "LISTEN"})
print("asked", *{address[0] for address in asked if isinstance(address, tuple)})
app.close(verbose=False)
"""


@needs_gradio
def test_it_listens_at_loopback_and_asks_nobody():
    done = subprocess.run([sys.executable, "-c", SERVED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert said["listens"] == ["127.0.0.1"]
    assert set(said["asked"]) <= {"127.0.0.1", "localhost"}


@needs_gradio
def test_a_port_that_is_taken_is_one_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["app", "--model", "mlp_seed0", "--port", str(port)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"fashion-mnist: Port {port} cannot be used")


@needs_gradio
@pytest.mark.parametrize("port", [[], ["--port", "7999"]], ids=["any port", "a port"])
def test_an_address_of_another_machine_is_one_sentence_at_once(port, capsys):
    began = time.monotonic()
    assert cli.main(["app", "--model", "mlp_seed0", "--host", "203.0.113.7", *port]) == 1
    assert time.monotonic() - began < 30
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("fashion-mnist: 203.0.113.7 is no address of this machine; 127.0.0.1 is for yourself")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@needs_gradio
def test_the_verb_serves_until_ctrl_c():
    script = Path(sys.executable).with_name("fashion-mnist")
    command = [script, "app", "--model", "mlp_seed0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split()[-1]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address) as page:
                assert page.status == 200 and b"Which garment is this?" in page.read()
        finally:
            psutil.Process(process.pid).send_signal(2)
        assert process.wait(30) == 130
        assert "Interrupted" in process.stderr.read()


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["app"]) == 1
    assert 'pip install "gradio>=6" "pillow<13"' in capsys.readouterr().err


def test_examples_are_right_ones_of_every_class_and_wrong_ones(real_data, best):
    right, wrong = demo.examples(best.network, real_data)
    assert [name for _, name in right] == list(data.CLASS_NAMES)
    assert len(wrong) == demo.MISTAKES
    for image, name in right:
        assert data.CLASS_NAMES[best.answer(image).classes[0]] == name
    for image, name in wrong:
        assert data.CLASS_NAMES[best.answer(image).classes[0]] != name


def test_without_the_data_of_the_network_there_are_no_examples(best, monkeypatch, tmp_path):
    monkeypatch.delenv("FASHION_MNIST_DATA", raising=False)
    assert demo.examples(best.network, Path(__file__).parents[1] / "data.zip") == ([], [])
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    assert demo.examples(best.network) == ([], [])


def test_a_network_without_predictions_has_no_examples(best, real_data, tmp_path):
    assert demo.examples(dataclasses.replace(best.network, folder=tmp_path), real_data) == ([], [])


def test_the_heat_map_is_red_where_it_is_strong_and_shows_the_garment_elsewhere():
    image = np.zeros((28, 28, 1), np.uint8)
    image[8:20, 8:20] = 255
    heat = np.zeros((28, 28), np.float32)
    heat[8:14] = 1
    plain, over = demo._picture(image), demo._picture(image, heat)
    assert plain.shape == over.shape == (28 * demo.LARGE, 28 * demo.LARGE, 3)
    red, below = over[11 * demo.LARGE, 14 * demo.LARGE].astype(int), over[18 * demo.LARGE, 14 * demo.LARGE].astype(int)
    assert red[0] > red[2] + 50, "red"
    assert np.ptp(below) == 0 and below[0] < 255, "grey"
    assert plain[0, 0].tolist() == [255, 255, 255] and plain[10 * demo.LARGE, 10 * demo.LARGE].tolist() == [0, 0, 0]
