"""The rules of the repository: formatter, linter, type checker, import contracts, sizes, and fast help pages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name(command[0])
    return subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("ty", "check", "--python", sys.prefix, "--python-version", f"{sys.version_info[0]}.{sys.version_info[1]}"),
        ("lint-imports", "--no-cache"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_tool_finds_nothing(command):
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_is_longer_than_400_lines():
    long = {path.name: count for path in SOURCES if (count := len(path.read_text().splitlines())) > 400}
    assert not long


def test_no_function_is_longer_than_60_lines_or_takes_more_than_6_positional_parameters():
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                docstring = ast.get_docstring(node, clean=False) or ""
                lines = node.end_lineno - node.lineno - docstring.count("\n")
                if lines > 60 or len(node.args.args) > 7:
                    found.append(f"{path.name}:{node.lineno} {node.name}")
    assert not found


@pytest.mark.parametrize(
    "module", ["torch", "transformers", "matplotlib", "plotly", "pandas", "scipy", "rich", "numpy", "jinja2"]
)
def test_help_imports_no_heavy_module(module):
    code = f"import sys\nfrom joma.cli import parser\nparser().format_help()\nassert {module!r} not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_committed_file_names_a_local_folder(tracked):
    home = str(ROOT) + "/"
    found = [name for name in tracked if home.encode() in (ROOT / name).read_bytes()]
    assert not found
