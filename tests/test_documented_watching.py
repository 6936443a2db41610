"""The code in docs/watch.md runs as written."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "watch.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_every_block_runs_and_leaves_its_measurements(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS:
        exec(compile(block, "docs/watch.md", "exec"), {"__name__": "documented"})
    written = {path.parent.name for path in tmp_path.rglob("metrics.parquet")}
    assert written == {"loop", "trainer", "lightning"}
    table = capsys.readouterr().out
    assert re.search(r"^20 +1\.\d+", table, re.MULTILINE)


@pytest.mark.parametrize("title", ["Trainer of transformers", "Lightning"])
def test_a_run_with_a_callback_takes_about_twenty_lines(title):
    block = re.search(rf"## {title}\n\n```python\n(.*?)```", TEXT, re.DOTALL)[1]
    assert sum(bool(line.strip()) for line in block.splitlines()) <= 21
