"""No import cycles between modules or packages, and tables in the docs that name all packages and modules."""

import ast
import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "joma"


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """The imports of each module, including those inside functions and for the type checker."""
    graph = grimp.build_graph("joma", cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def cycle_in(imports: dict[str, set[str]]) -> list[str]:
    """Return an import cycle, its modules in order; empty if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def between_packages(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports of each package from others; an ``__init__`` may import from its own package."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, imported in imports.items():
        here = module.rpartition(".")[0]
        found[here] |= {other.rpartition(".")[0] for other in imported} - {here, module}
    return found


def test_modules_have_no_import_cycle(imports):
    assert not cycle_in(imports)


def test_packages_have_no_import_cycle(imports):
    assert not cycle_in(between_packages(imports))


def test_an_import_cycle_is_found():
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in (["b", "c", "b"], ["c", "b", "c"])
    assert cycle_in(between_packages({"one.a": {"two.b"}, "two.c": {"one.d"}})) != []


def packages() -> dict[str, tuple[str, set[str]]]:
    """Return the first line of the docstring and the names of the modules of each package."""
    found = {}
    for path in sorted(SOURCE.rglob("__init__.py")):
        modules = {module.stem for module in path.parent.glob("*.py")} - {"__init__", "__main__"}
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.parent.relative_to(SOURCE).as_posix()] = (docstring.splitlines()[0], modules)
    return found


def test_architecture_names_every_package_with_its_modules():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/.]+)` \| (.+?) \| (.*?) \|$", text, re.MULTILINE)
    written = {package: (text, set(re.findall(r"`(\w+)`", modules))) for package, text, modules in rows}
    assert written == packages()


def test_readme_names_every_package_directly_below_joma():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `src/joma/(\w+)/` \| (.+) \|$", text, re.MULTILINE)
    assert dict(named) == {name: text for name, (text, _) in packages().items() if name != "." and "/" not in name}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/index.md"])
def test_every_path_named_in_a_page_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests|docs|benchmarks|examples)/[\w./-]+)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


def imported_when_run(package: str) -> set[str]:
    """Return the imports of a package from elsewhere, except for the type checker."""
    graph = grimp.build_graph(
        "joma", cache_dir=None, exclude_type_checking_imports=True, include_external_packages=True
    )
    own = {module for module in graph.modules if module.startswith(f"joma.{package}")}
    return set().union(*map(graph.find_modules_directly_imported_by, own)) - own


def computing(imported: set[str]) -> set[str]:
    """Return the numerical modules: theory, simulations, networks, measurements except results of scans."""
    packages = [f"joma.{name}." for name in ("theory", "simulate", "expressive", "train", "saved", "measure")]
    of_scans = ("joma.measure.scan.", "joma.measure.curves.")
    found = {module for module in imported if module == "scipy" or module.startswith(tuple(packages))}
    return {module for module in found if not module.startswith(of_scans)}


def test_the_report_imports_no_numerical_modules_except_for_types():
    assert not computing(imported_when_run("report"))


def test_imports_of_numerical_modules_by_claims_are_found():
    assert {"joma.theory.linear", "joma.train.run", "joma.simulate.flow"} <= computing(imported_when_run("claims"))
