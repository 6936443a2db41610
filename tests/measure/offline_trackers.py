"""Run W&B and trackio without an account or a network, and read the files that they write."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_BLOCK, _HEADER = 32768, 7
_WHOLE, _LAST = 1, 4


def offline_wandb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return W&B in offline mode, writing to the folder."""
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(folder))
    for name, value in {"MODE": "offline", "SILENT": "true", "CONSOLE": "off", "ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb = pytest.importorskip("wandb", reason="not installed: it comes with joma[dev]")
    wandb.teardown()  # otherwise it keeps the settings of an earlier test
    return wandb


def wandb_rows(wandb: ModuleType, folder: Path) -> list[dict[str, Any]]:
    """Finish the only run in a folder, and return its history as rows of values by name."""
    records = _wandb_records(wandb, folder)
    rows = [record.history.item for record in records if record.WhichOneof("record_type") == "history"]
    return [{item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows]


def wandb_axes(wandb: ModuleType, folder: Path) -> dict[str, str]:
    """Finish the only run in a folder, and return the axes of its charts by names of metrics."""
    metrics = [record.metric for record in _wandb_records(wandb, folder) if record.HasField("metric")]
    return {metric.glob_name: metric.step_metric for metric in metrics if metric.glob_name}


def _wandb_records(wandb: ModuleType, folder: Path) -> list[Any]:
    """Return the messages in the file's frames, which never cross a block."""
    from wandb.proto.wandb_internal_pb2 import Record

    if wandb.run is not None:
        wandb.run.finish()
    wandb.teardown()  # only then is everything on disk
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, records, message, at = path.read_bytes(), [], b"", _HEADER
    while at + _HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        at += _HEADER + length
        message += data[at - length : at]
        if kind in (_WHOLE, _LAST):
            records.append(Record.FromString(message))
            message = b""
    return records


def local_trackio(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return trackio without a Space, writing to a database in the folder."""
    monkeypatch.setenv("TRACKIO_DIR", str(folder))
    reason = "not installed, for it takes an older Pillow and 59 MB: pip install trackio"
    trackio = pytest.importorskip("trackio", reason=reason)
    monkeypatch.setattr(trackio.sqlite_storage, "TRACKIO_DIR", folder)  # it is read once, at import
    trackio.context_vars.current_run.set(None)  # of an earlier test
    return trackio


def trackio_rows(trackio: ModuleType, project: str) -> list[dict[str, Any]]:
    """Finish the only run of a project, and return its history as rows of values by name."""
    if trackio.context_vars.current_run.get() is not None:
        trackio.finish()
    (run,) = trackio.Api().runs(project)
    return trackio.SQLiteStorage.get_logs(project, run.name, run_id=run.id)
