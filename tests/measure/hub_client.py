"""Connect the real hub client to a hub on the loopback interface."""

from pathlib import Path

import huggingface_hub.constants
import pytest

from joma.saved import hub


def point_to(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client use ``endpoint``, as with ``HF_ENDPOINT``, and wait very little between retries."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(hub, "WAITS_S", (0.01,) * 3)
