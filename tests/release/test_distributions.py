"""The wheel and the sdist hold what they cite, and every place that states a version or an author states the same."""

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path, PurePosixPath

import pytest
import yaml

import joma

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
SHARED = f"joma-{joma.__version__}.data/data/share/doc/joma/"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> dict[str, bytes]:
    with zipfile.ZipFile(built / f"joma-{joma.__version__}-py3-none-any.whl") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def sdist(built) -> dict[str, bytes]:
    with tarfile.open(built / f"joma-{joma.__version__}.tar.gz") as archive:
        files = [member for member in archive if member.isfile()]
        return {member.name.split("/", 1)[1]: archive.extractfile(member).read() for member in files}


def missing(files: dict[str, bytes]) -> list[str]:
    """Return the relative links of Markdown files to files that are not there."""
    found = []
    for name in files:
        if name.endswith(".md"):
            for link in LINK.findall(files[name].decode()):
                parts: list[str] = []
                for part in PurePosixPath(name).parent.joinpath(link).parts:
                    parts = parts[:-1] if part == ".." else [*parts, part]
                if "/".join(parts) not in files:
                    found.append(f"{name}: {link}")
    return found


def test_a_link_to_a_file_that_is_not_there_is_found():
    assert missing({"docs/a.md": b"[b](../b.md) [c](c.md)", "b.md": b"[web](https://example.org)"}) == [
        "docs/a.md: c.md"
    ]


def test_the_sdist_holds_all_tracked_files_and_what_they_link_to(sdist, tracked):
    assert not set(tracked) - sdist.keys()
    assert not missing(sdist)


def test_the_wheel_holds_all_modules_and_the_pages_that_they_name(wheel):
    source = ROOT / "src" / "joma"
    modules = {path.relative_to(source.parent).as_posix() for path in source.rglob("*") if path.is_file()}
    assert not {name for name in modules if "__pycache__" not in name} - wheel.keys()
    pages = {name.removeprefix(SHARED): content for name, content in wheel.items() if name.startswith(SHARED)}
    assert not missing(pages)
    code = b"\n".join(content for name, content in wheel.items() if re.match(r"joma/.*\.py$", name)).decode()
    named = {name if name.endswith(".md") else f"{name}.md" for name in re.findall(r"docs/[a-z-]+(?:\.md)?", code)}
    assert named
    assert named <= pages.keys()


def test_the_wheel_and_the_citation_state_the_same(wheel):
    metadata = wheel[f"joma-{joma.__version__}.dist-info/METADATA"]
    stated = message_from_bytes(metadata)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (stated["Version"], stated["License-Expression"]) == (str(citation["version"]), citation["license"])
    assert stated["Author"] == ", ".join(author["name"] for author in citation["authors"])
    assert set(citation["keywords"]) <= set(stated["Keywords"].split(","))
    assert metadata.endswith((ROOT / "README.md").read_bytes())


def test_the_page_on_citing_states_what_the_citation_does():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    entry = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8").partition("@software")[2].partition("```")[0]
    stated = {"title": citation["title"], "version": citation["version"], "license": citation["license"]}
    stated["author"] = "{" + " and ".join(author["name"] for author in citation["authors"]) + "}"
    assert dict(re.findall(r"(\w+) += \{(.*)\},?$", entry, re.MULTILINE)) == stated


def test_the_changelog_begins_with_this_version_and_lists_all_public_names():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] == joma.__version__
    assert not [name for name in dir(joma) if not re.search(rf"`{name}\b", changes)]
