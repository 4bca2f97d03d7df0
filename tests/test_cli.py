"""The command line from outside: the installed script as a process of its own."""

import gzip
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from fashion_mnist import files, profiles
from fashion_mnist.headless import cli, readme

SCRIPT = Path(sys.executable).with_name("fashion-mnist")
SAMPLE = Path(__file__).parents[1] / "data.zip"
VERBS = [
    *(["run"], ["train"], ["report"], ["data"], ["data", "fetch"], ["data", "verify"], ["data", "pack"]),
    *(["data", "info"], ["tune"], ["evaluate"], ["compare"], ["export"], ["predict"], ["app"], ["colab"]),
]


def fashion_mnist(*arguments, **environment):
    """Run the script and wait; the environment names no data and no folder unless the caller does."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("FASHION_MNIST_DATA", "FASHION_MNIST_ROOT")
    }
    command = [SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**kept, **environment}, check=False)


def test_help_answers_at_once():
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        done = fashion_mnist("--help")
        seconds.append(time.perf_counter() - began)
    assert done.returncode == 0
    assert done.stderr == ""
    assert all(verb in done.stdout for verb in ("run", "report", "data"))
    assert statistics.median(seconds) < 0.3, seconds


def test_help_imports_nothing_heavy():
    code = "import sys; from fashion_mnist.headless import cli; cli._parser(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pandas", "tensorflow", "keras", "matplotlib", "papermill", "PIL", "gradio"} & set(modules)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_of_every_verb_ends_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([*verb, "--help"])
    assert left.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.strip().splitlines()[-1].startswith(f"Example: fashion-mnist {' '.join(verb)}")


def test_every_verb_is_tested_here(capsys):
    listed = []
    for prefix in ([], ["data"]):
        with pytest.raises(SystemExit):
            cli.main([*prefix, "--help"])
        lines = capsys.readouterr().out.split("VERB\n")[1].splitlines()
        listed += [[*prefix, line.split()[0]] for line in lines if line.startswith("    ") and line[4] != " "]
    assert sorted(listed) == sorted(VERBS)


def test_spaces_are_those_of_the_study():
    from fashion_mnist import spaces

    assert tuple(spaces.SPACES) == cli.SPACES


def test_the_profiles_can_be_chosen(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    assert f"{{{','.join(profiles.PROFILES)}}}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["run", "--profile", "fast"],
        ["run", "--seed", "one"],
        ["run", "--seed", "-1"],
        ["run", "--redraw"],
        ["run", "--profile", "full", "--redraw", "--fresh"],
        ["train"],
        ["export", "cnn_seed0"],
        ["predict"],
        ["app", "--port", "70000"],
        ["tune", "cnn_grid", "--scheduler", "nowhere"],
        ["tune", "cnn_grid", "--scheduler", "tcp://localhost:1", "--workers", "2"],
        ["report", "--readme", "--profile", "full"],
        ["data"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_with_the_usage_on_standard_error(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: fashion-mnist")


def test_version(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("fashion-mnist ")


@pytest.mark.parametrize("verb", [["run"], ["train", "--missing"], ["colab"]], ids=" ".join)
def test_an_unknown_notebook_is_wrong_usage_and_the_choices_are_named(tmp_path, verb):
    write_notebook(tmp_path, "01_a", "1")
    done = fashion_mnist(*verb, "01_b", FASHION_MNIST_ROOT=str(tmp_path))
    assert done.returncode == 2
    assert "There is no notebook 01_b; choose from 01_a." in done.stderr
    assert done.stdout == ""


def test_bad_data_is_1_with_one_line_on_standard_error(tmp_path):
    write_notebook(tmp_path, "01_a", "1")
    for verb in (["run"], ["data", "info"]):
        done = fashion_mnist(*verb, "--data", tmp_path / "nowhere", FASHION_MNIST_ROOT=str(tmp_path))
        assert done.returncode == 1
        assert done.stdout == ""
        assert "nowhere" in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_second_run_at_the_same_time_is_1_with_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    write_notebook(tmp_path, "01_a", "1")
    with files.alone(tmp_path / "build" / "smoke", "runs"):
        assert cli.main(["run", "--profile", "smoke", "--data", str(SAMPLE)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("fashion-mnist: Another process runs the notebooks at profile smoke")


def test_networks_of_the_full_study_are_trained_on_the_official_data_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    write_notebook(tmp_path, "01_a", "1")
    assert cli.main(["train", "--missing", "--data", str(SAMPLE)]) == 1
    assert "official data only" in capsys.readouterr().err.splitlines()[-1]


def test_a_damaged_record_is_1_with_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "01_a.json").write_text("{")
    (tmp_path / "README.md").write_text("<!-- results:01_a -->\n<!-- /results -->\n")
    assert cli.main(["report", "--readme"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fashion-mnist: ") and "01_a.json is not JSON" in line


def test_a_report_of_nothing_is_1(tmp_path):
    write_notebook(tmp_path, "01_a", "1")
    done = fashion_mnist("report", FASHION_MNIST_ROOT=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fashion-mnist: No notebook has been executed")


def test_colab_copies_are_named_on_standard_output(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    write_notebook(tmp_path, "01_a", "1")
    assert cli.main(["colab", "01_a", "--to", str(tmp_path / "copies")]) == 0
    assert (tmp_path / "copies" / "01_a.ipynb").exists()
    assert capsys.readouterr().out.startswith(str(tmp_path / "copies" / "01_a.ipynb"))


def test_data_verbs_on_data_of_the_user(tmp_path, monkeypatch, capsys, real_data):
    monkeypatch.setenv("FASHION_MNIST_DATA", str(real_data))
    assert cli.main(["data", "pack", "--to", str(tmp_path / "data.zip")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'data.zip'}\n"
    assert cli.main(["data", "verify", "--data", str(tmp_path / "data.zip")]) == 0
    assert capsys.readouterr().out.count("  ok\n") == 4
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path / "empty"))
    assert cli.main(["data", "pack"]) == 0, "the folder build/ is made"
    assert capsys.readouterr().out == f"{tmp_path / 'empty' / 'build' / 'data.zip'}\n"
    broken = tmp_path / "broken"
    shutil.copytree(real_data, broken)
    labels = broken / "t10k-labels-idx1-ubyte.gz"
    labels.unlink()  # the copy may be read-only, as its source
    labels.write_bytes(gzip.compress(b"other labels"))
    assert cli.main(["data", "verify", "--data", str(broken)]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("  ok\n") == 3
    assert "t10k-labels-idx1-ubyte.gz   WRONG" in captured.out
    assert captured.err.startswith("1 of 4 files")


def test_the_pages_are_rewritten_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    (tmp_path / "results").mkdir()
    record = {"profile": "full", "data": {"kind": "official"}, "readme": "The number is 1."}
    files.write_json(tmp_path / "results" / "01_a.json", record)
    (tmp_path / "README.md").write_text("<!-- results:01_a -->\n<!-- /results -->\n")
    assert cli.main(["report", "--readme"]) == 0
    assert capsys.readouterr().out == "Rewritten: README.md: 01_a\n"
    assert cli.main(["report", "--readme"]) == 0
    assert capsys.readouterr().out == "The pages agree with results/.\n"


def test_a_bug_shows_its_traceback(monkeypatch):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr(readme, "rewrite", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["report", "--readme"])


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_is_130_with_one_line():
    code = "import os, signal; from fashion_mnist.headless import cli, report\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job starts with it ignored
    code += "report.report = lambda profile: os.kill(os.getpid(), signal.SIGINT)\n"
    code += "raise SystemExit(cli.main(['report']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "Interrupted.\n")


def test_info_answers_on_standard_output(tmp_path):
    """The one verb about data that needs neither network nor the real data."""
    done = fashion_mnist("data", "info", "--data", SAMPLE, FASHION_MNIST_ROOT=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "sample" in done.stdout
    assert list(tmp_path.iterdir()) == []


def write_notebook(root, name, *sources):
    (root / "notebooks").mkdir(exist_ok=True)
    cells = [new_markdown_cell(f"# {name}"), *map(new_code_cell, sources)]
    nbformat.write(new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")
