"""Whether the configurations that lie beside saved steps describe one model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from joma.errors import BadInput
from joma.measure.models.building import configuration

_OF_THE_FILE = re.compile(r"(torch_)?dtype|transformers_version|_name_or_path|_commit_hash|use_cache|\w+_token_id")
"""Settings that say how a model was saved or is to be used (loops set token ids), not what it computes."""

_DECISIVE = re.compile(
    r"^model_type$|^(?!.*drop).*(head|layer|rope|rotary|window|softcap|alibi|parallel|multiplier|_eps|epsilon|scal|bias"
    r"|hidden_(size|act)|activation|intermediate|embd|_dim|d_model)"
)
"""Settings with which the same weights compute something else."""


class OddSetting(NamedTuple):
    """A setting of one step that is not that of most steps.

    Args:
        name: of the setting.
        here, usual: its values, ``None`` where it is not set.
        decisive: whether the same weights compute something else with it.
    """

    name: str
    here: Any
    usual: Any
    decisive: bool


def odd_settings(configs: Mapping[int, Mapping[str, Any]]) -> dict[int, list[OddSetting]]:
    """Find settings that differ from those of most steps, decisive ones first; how a file spells them does not count.

    Args:
        configs: by step, as ``config.json`` has them.
    """
    odd = _odd(configs)
    if odd:  # versions of transformers leave out and name settings differently, and know each other's
        try:
            odd = _odd({step: configuration(config).to_dict() for step, config in configs.items()})
        except BadInput:  # what cannot be completed is compared as it stands, and refused when it is to be run
            return odd
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
