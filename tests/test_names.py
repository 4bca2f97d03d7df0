"""What benchmarks, tools and notebooks ask of the package is there: few of them are executed by any other test."""

import ast
import importlib
import json
import pkgutil
from pathlib import Path

import pytest

import fashion_mnist

ROOT = Path(__file__).parents[1]
MODULES = {name for _, name, _ in pkgutil.walk_packages(fashion_mnist.__path__, "fashion_mnist.")}
SCRIPTS = [*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("notebooks/*.ipynb")]


def source(path):
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_name_of_the_package_exists(path):
    tree = ast.parse(source(path))
    known = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fashion_mnist")
        for alias in node.names
    }
    asked = {
        (known[node.value.id], node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known
    }
    missing = [f"{module}.{name}" for module, name in asked if module in MODULES and not has(module, name)]
    assert not missing


def has(module, name):
    return hasattr(importlib.import_module(module), name) or f"{module}.{name}" in MODULES
