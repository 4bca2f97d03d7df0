"""What the pages promise is there: links, commands, code, recipes for contributors, the workflow."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import drawn

from fashion_mnist.headless import cli

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "models/README.md", "Data/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
WORKFLOW = ROOT / ".github" / "workflows" / "study.yml"
every_page = pytest.mark.parametrize("page", PAGES, ids=[path.relative_to(ROOT).as_posix() for path in PAGES])


def code_blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(text):
    """Command lines of a page: indented ones, fenced ones, and what stands between backticks."""
    prose = re.sub(r"^```python\n.*?^```", "", text, flags=re.M | re.S)
    indented = re.findall(r"^    (\S.*)$", prose, re.M)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^    .*$", "", prose, flags=re.M))
    lines = [re.split(r"\s#\s", line)[0].strip() for line in [*indented, *spans]]
    return [part.strip() for line in lines for part in line.split("&&")]


def of_ours(lines):
    """Arguments of those lines that call `fashion-mnist`, however its path is written."""
    found = [re.fullmatch(r"(?:\S*[/\\])?fashion-mnist\s+(.+)", line) for line in lines]
    return [match[1] for match in found if match]


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_to_files_and_headings_that_exist(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:href|src)="([^"]+)"', text)
    for target in targets:
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(path), f"{target}: there is no such heading"


@every_page
def test_commands_are_those_of_the_command_line(page):
    cards = {path.stem for path in (ROOT / "models").glob("*.json")}
    for line in of_ours(commands(page.read_text(encoding="utf-8"))):
        line = line.replace("10_mine", "01_eda")  # CONTRIBUTING's example of a notebook to come
        messages = io.StringIO()
        try:
            with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(messages):
                chosen = vars(cli._parser().parse_args(shlex.split(line)))
        except SystemExit as end:
            assert end.code == 0, f"fashion-mnist {line}: {messages.getvalue()}"
            continue
        assert {*chosen.get("models", ()), *filter(None, [chosen.get("model")])} <= cards, line


def test_what_nbconvert_makes_does_not_lie_among_the_notebooks():
    """Its --output is a name beside the notebook, which `run` would take for one of the study."""
    lines = [line for page in PAGES for line in commands(page.read_text(encoding="utf-8")) if "nbconvert --to" in line]
    assert lines and all("--output-dir build" in line for line in lines)


@every_page
def test_targets_of_make_exist(page):
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    lines = commands(page.read_text(encoding="utf-8"))
    named = {word for line in lines for word in re.findall(r"(?:^|[A-Z_]+=\S+ )make ([a-z]+)", line)}
    assert named <= targets


def test_sections_that_the_page_for_teachers_quotes_exist():
    text = (ROOT / "docs" / "teaching-and-ci.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*?\(\.\./notebooks/(\w+\.ipynb)\)(.*?)\|", text, re.M)
    assert len(rows) == 5
    for name, quoted in rows:
        cells = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))["cells"]
        headings = re.findall(r"^#+ (.+)$", "\n".join("".join(cell["source"]) for cell in cells), re.M)
        assert set(re.findall(r'"([^"]+)"', quoted)) <= set(headings), name


def test_the_code_in_readme_runs(tmp_path):
    (code,) = code_blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    surroundings = {**os.environ, "FASHION_MNIST_DATA": str(ROOT / "data.zip")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\['[^']+', '[^']+', '[^']+'\]\s*$", done.stdout), "three garments are named"


@pytest.mark.usefixtures("study_style")
def test_what_contributing_adds_fits_where_it_says():
    """Each block is run in the module that it is for, as if it stood there."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    architecture, figure, test_of_figure, method = code_blocks(text, "python")

    from fashion_mnist import explain, models
    from fashion_mnist._backend import keras
    from fashion_mnist.figures import curves

    def added(block, module):
        namespace = dict(vars(module))
        exec(block, namespace)
        return types.SimpleNamespace(**namespace)

    keras.utils.set_random_seed(0)  # so that some filter sees something in each image
    model = added(architecture, models).small_cnn(filters=8, dense=8)
    assert (model.name, model.input_shape, model.output_shape) == ("small_cnn", (None, 28, 28, 1), (None, 10))
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    maps = added(method, explain).input_times_gradient(model, images)
    assert maps.shape == (3, 28, 28) and maps.min() >= 0 and maps.max() == 1
    namespace = {"drawn": drawn, "charts": added(figure, curves)}
    exec(test_of_figure, namespace)
    namespace["test_accuracy_by_size_has_one_point_a_size"]()


def test_every_network_with_weights_is_described():
    text = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    assert described <= {path.stem for path in (ROOT / "models").glob("*.json")}
    assert {path.stem for path in (ROOT / "models").glob("*.safetensors")} <= described


# --- files that others read


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        (WORKFLOW, "vendor.github-workflows"),
        (WORKFLOW, "custom.github-workflows-require-timeout"),
        (ROOT / "CITATION.cff", "vendor.citation-file-format"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_is_what_its_schema_says(path, schema):
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("needs check-jsonschema, of the test extra")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_tests_three_systems_with_the_oldest_and_the_newest_python():
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    oldest, beyond = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', project).groups()
    assert matrix["python"] == [f"3.{oldest}", f"3.{int(beyond) - 1}"]
    lines = [line for job in jobs.values() for step in job["steps"] for line in step.get("run", "").splitlines()]
    assert {line.split()[0] for line in of_ours(lines)} >= {"data", "run", "report", "colab"}
    for line in of_ours(lines):
        cli._parser().parse_args(shlex.split(line))
