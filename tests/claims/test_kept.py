"""What an output folder keeps of trained networks."""

import pytest
from tiny import tiny_recipe, tiny_tokens

from joma.claims import series
from joma.claims.kept import is_shrunk, shrink
from joma.files import write_json
from joma.train.series import SeriesRecipe, step_folder
from joma.train.training import train

EVALUATED = {claim.id for claim in series.CLAIMS}


@pytest.fixture
def folder(tmp_path):
    """One finished run, a folder that cannot be read, and the files of a series of three steps."""
    train(tiny_recipe(num_steps=4, snapshot_every=2, early_until=0), tiny_tokens(), tmp_path / "runs" / "tiny")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.json").write_text("{")
    place = tmp_path / "series" / "small"
    write_json(place / "series.json", {"recipe": {"num_steps": 2, "save_every": 1}})
    for step in SeriesRecipe(num_steps=2, save_every=1).saved_steps():
        step_folder(place, step).mkdir()
        (step_folder(place, step) / "model.safetensors").write_bytes(b"w" * 1000)
    return tmp_path


def size(folder) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_is_freed_is_what_the_folder_loses_and_nothing_the_second_time(folder):
    before = size(folder)
    assert not is_shrunk(folder)
    freed = shrink(folder, EVALUATED)
    assert freed == before - size(folder) > 2000
    assert is_shrunk(folder)
    assert shrink(folder, EVALUATED) == 0
    assert [path.name for path in (folder / "series" / "small").glob("step*")] == ["step2"]


def test_a_series_stays_whole_while_a_claim_that_reads_it_is_not_evaluated(folder):
    assert shrink(folder, EVALUATED - {series.CLAIMS[0].id}) > 0
    assert len(list((folder / "series" / "small").glob("step*"))) == 3


def test_a_folder_without_networks_has_nothing_to_remove(tmp_path):
    assert shrink(tmp_path / "absent", EVALUATED) == 0
