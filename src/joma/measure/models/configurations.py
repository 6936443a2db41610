"""Check whether the configurations of saved steps describe the same model."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from joma.errors import BadInput
from joma.measure.models.building import configuration

_OF_THE_FILE = re.compile(r"(torch_)?dtype|transformers_version|_name_or_path|_commit_hash|use_cache|\w+_token_id")
"""Settings of how a model is saved or used (training loops set token ids), which do not change what it computes."""

_DECISIVE = re.compile(
    r"^model_type$|^(?!.*drop).*(head|layer|rope|rotary|window|softcap|alibi|parallel|multiplier|_eps|epsilon|scal|bias"
    r"|hidden_(size|act)|activation|intermediate|embd|_dim|d_model)"
)
"""Settings that change what the same weights compute."""


class OddSetting(NamedTuple):
    """A setting of one step that differs from that of most steps.

    Args:
        name: of the setting.
        here, usual: its values in this step and in most steps; ``None`` if it is not set.
        decisive: whether it changes what the same weights compute.
    """

    name: str
    here: Any
    usual: Any
    decisive: bool


def odd_settings(configs: Mapping[int, Mapping[str, Any]]) -> dict[int, list[OddSetting]]:
    """Find settings that differ from those of most steps, decisive ones first, regardless of their spelling.

    Args:
        configs: contents of ``config.json`` by step.
    """
    odd = _odd(configs)
    if odd:  # versions of transformers omit and name settings differently, but read each other's files
        with contextlib.suppress(BadInput):  # a file that transformers refuses is compared as written
            odd = _odd({step: configuration(config).to_dict() for step, config in configs.items()})
    return odd


def _odd(configs: Mapping[int, Mapping[str, Any]]) -> dict[int, list[OddSetting]]:
    names = {name for config in configs.values() for name in config if not _OF_THE_FILE.fullmatch(name)}
    found: dict[int, list[OddSetting]] = {}
    for name in sorted(names, key=lambda name: (name != "model_type", not _DECISIVE.search(name), name)):
        written = {step: json.dumps(config.get(name), sort_keys=True, default=str) for step, config in configs.items()}
        usual = Counter(written.values()).most_common(1)[0][0]
        for step, value in written.items():
            if value != usual:
                decisive = _DECISIVE.search(name) is not None
                found.setdefault(step, []).append(
                    OddSetting(name, configs[step].get(name), json.loads(usual), decisive)
                )
    return found
