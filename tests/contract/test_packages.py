"""The rooms of the package: no import cycle between modules or rooms, and maps in the docs that name all of them."""

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
    """What each module imports, inside functions and for the type checker included."""
    graph = grimp.build_graph("joma", cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def cycle_in(imports: dict[str, set[str]]) -> list[str]:
    """One import cycle, its modules in order; empty if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def between_rooms(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same for folders: a room imports what its modules import from others."""
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, imported in imports.items():
        here = module.rpartition(".")[0]
        rooms[here] |= {room for other in imported if (room := other.rpartition(".")[0]) != here}
    return rooms


def test_no_modules_import_each_other_in_a_circle(imports):
    assert not cycle_in(imports)


def test_no_rooms_import_each_other_in_a_circle(imports):
    assert not cycle_in(between_rooms(imports))


def test_a_circle_is_found():
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in (["b", "c", "b"], ["c", "b", "c"])
    assert cycle_in(between_rooms({"one.a": {"two.b"}, "two.c": {"one.d"}})) != []


def rooms() -> dict[str, tuple[str, set[str]]]:
    """Each room: the first line of its docstring, and the names of its modules."""
    found = {}
    for path in sorted(SOURCE.rglob("__init__.py")):
        modules = {module.stem for module in path.parent.glob("*.py")} - {"__init__", "__main__"}
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.parent.relative_to(SOURCE).as_posix()] = (docstring.splitlines()[0], modules)
    return found


def test_architecture_names_every_room_with_its_modules():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/.]+)` \| (.+?) \| (.*?) \|$", text, re.MULTILINE)
    written = {room: (what, set(re.findall(r"`(\w+)`", modules))) for room, what, modules in rows}
    assert written == rooms()


def test_readme_names_every_room_of_the_first_floor():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `src/joma/(\w+)/` \| (.+) \|$", text, re.MULTILINE)
    assert dict(named) == {room: what for room, (what, _) in rooms().items() if room != "." and "/" not in room}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/index.md"])
def test_every_path_that_a_page_names_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests|docs|benchmarks|examples)/[\w./-]+)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


def imported_when_run(room: str) -> set[str]:
    """What the modules of a room import from elsewhere, other than for the type checker."""
    graph = grimp.build_graph(
        "joma", cache_dir=None, exclude_type_checking_imports=True, include_external_packages=True
    )
    own = {module for module in graph.modules if module.startswith(f"joma.{room}")}
    return set().union(*map(graph.find_modules_directly_imported_by, own)) - own


def computing(imported: set[str]) -> set[str]:
    """Those of the modules that compute: theory, simulations, networks, measurements other than those of a scan."""
    rooms = [f"joma.{room}." for room in ("theory", "simulate", "expressive", "train", "saved", "measure")]
    of_scans = ("joma.measure.scan.", "joma.measure.curves.")
    found = {module for module in imported if module == "scipy" or module.startswith(tuple(rooms))}
    return {module for module in found if not module.startswith(of_scans)}


def test_the_report_imports_nothing_that_computes_but_for_its_types():
    assert not computing(imported_when_run("report"))


def test_claims_are_found_to_import_what_computes():
    assert {"joma.theory.linear", "joma.train.run", "joma.simulate.flow"} <= computing(imported_when_run("claims"))
