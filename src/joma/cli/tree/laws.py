"""The law of a hierarchy as options give it: a latent tree, the paper's table, its extension, a model, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from joma.cli.numbers import Given, numbers
from joma.cli.parsing import Parser
from joma.errors import BadInput

if TYPE_CHECKING:
    from joma.problem.combinatorial import Combinatorial
    from joma.problem.random_hierarchy import RandomHierarchy
    from joma.problem.tree import LatentTree, Law

_TREE = ("branching", "polarity", "labels", "jitter")
_TABLE = ("classes", "levels", "members", "tokens", "length", "distinct")
_MODEL = ("classes", "symbols", "synonyms", "branching", "depth", "uncorrelated", "filtered")
_LAWS: Mapping[str, tuple[str, ...]] = {
    "latent-tree": (*_TREE, "filtered", "law_seed"),
    "table": (*_TABLE, "law_seed"),
    "random": (*_TABLE, "show", "alternatives", "law_seed"),
    "rhm": (*_MODEL, "law_seed"),
}
_OPTIONS = tuple(dict.fromkeys(name for names in _LAWS.values() for name in names))
DEFAULT_BRANCHING, DEFAULT_POLARITY, DEFAULT_LEVELS, DEFAULT_SHOW = "2,2,2,2", 0.8, "10,20", 0.8


def add_law_options(parser: Parser) -> None:
    """Add the options that say which law."""
    add = parser.add_argument
    add("--law", type=str, default="latent-tree", help="latent-tree, table, random, rhm, or a .json file")
    add(
        "--branching",
        type=Given,
        metavar="NUMBERS",
        help=f"latent-tree: children by level ({DEFAULT_BRANCHING}); rhm: symbols of a tuple, one number (2)",
    )
    add(
        "--polarity",
        type=Given,
        metavar="NUMBERS",
        help=f"latent-tree: ρ, one for all edges or one for each level from the label down ({DEFAULT_POLARITY})",
    )
    add("--labels", type=PositiveInt, metavar="N", help="latent-tree: values of the label (2)")
    add("--jitter", type=float, metavar="ρ", help="latent-tree: moves every edge's polarity by up to this (0)")
    add("--classes", type=PositiveInt, metavar="N", help="table, random: values of the label (20); rhm: likewise (8)")
    add(
        "--levels",
        type=Given,
        metavar="NUMBERS",
        help=f"table, random: latents of each level, tokens' first ({DEFAULT_LEVELS})",
    )
    add(
        "--members",
        type=Given,
        metavar="NUMBERS",
        help="table, random: members of a latent, one number or one for each level and the classes (2)",
    )
    add("--tokens", type=PositiveInt, metavar="N", help="table, random: tokens to draw members from (100)")
    add("--length", type=PositiveInt, metavar="N", help="table, random: of the sequences, with their padding (30)")
    add("--distinct", action="store_true", help="table, random: no two classes show the same tokens")
    add("--show", type=float, help=f"random: probability with which a latent shows each member ({DEFAULT_SHOW})")
    add(
        "--alternatives",
        type=PositiveInt,
        metavar="N",
        help="random: member sets of a latent, of which one is drawn (1)",
    )
    add("--symbols", type=PositiveInt, metavar="N", help="rhm: symbols of each level, and tokens (8)")
    add("--synonyms", type=PositiveInt, metavar="N", help="rhm: tuples that each symbol can be written as (4)")
    add("--depth", type=PositiveInt, metavar="N", help="rhm: levels of rules from the label to the tokens (3)")
    add("--uncorrelated", action="store_true", help="rhm: no tuple is correlated with the label (a control)")
    add(
        "--filtered",
        type=int,
        metavar="LEVEL",
        help="latent-tree, rhm: cut correlations above this level; 0 is just above the tokens, -1 the tokens",
    )
    add("--law-seed", type=int, metavar="N", help="what of the law is drawn: members, rules, or signs and jitter (0)")


def law_of(options: Any) -> Law:
    """Build or read the law.

    Raises:
        BadInput: an option that has no effect on this law, or a law that cannot be.
    """
    given = {name: getattr(options, name) for name in _OPTIONS}
    given = {name: value for name, value in given.items() if value is not None and value is not False}  # 0 is given
    from_file = Path(options.law).suffix.lower() == ".json"
    if not from_file:
        from joma.domains import choose

        choose(options.law, _LAWS, "tree", "law")
    allowed = () if from_file else _LAWS[options.law]
    for name in given:
        if name not in allowed:
            raise _without_effect(name, options.law, [law for law, names in _LAWS.items() if name in names])
    if from_file:
        from joma.train.hierarchies import load_law

        return load_law(Path(options.law))
    if options.law in ("table", "random"):
        return _combinatorial(given, options.law == "random")
    law = _latent_tree(given) if options.law == "latent-tree" else _model(given)
    if "filtered" not in given:
        return law
    from joma.problem.filtered import filtered

    return filtered(law, given["filtered"])


def whole_numbers(given: Given, option: str) -> list[int]:
    """The whole numbers of at least 1 meant by ``given``.

    Raises:
        BadInput: as ``numbers``, and for anything else.
    """
    values = numbers(given, option)
    for value in values:
        if value % 1 or value < 1:
            raise BadInput(
                f"{option} holds {value:g}", expected="whole numbers of at least 1", remedy="write 2,2, for one"
            )
    return [int(value) for value in values]


def _latent_tree(given: Mapping[str, Any]) -> LatentTree:
    from joma.problem.tree import balanced_tree

    polarity = numbers(given.get("polarity", DEFAULT_POLARITY), "--polarity")
    labels, jitter = given.get("labels", 2), given.get("jitter", 0.0)
    if "law_seed" in given and labels == 2 and not jitter:
        raise BadInput(
            "--law-seed has no effect: nothing of this tree is drawn",
            expected="more than two --labels, or --jitter, with it",
            remedy="leave it out; --seed is the one of the samples",
        )
    return balanced_tree(
        whole_numbers(given.get("branching", DEFAULT_BRANCHING), "--branching"),
        polarity[0] if len(polarity) == 1 else polarity,
        num_labels=labels,
        seed=given.get("law_seed", 0),
        jitter=jitter,
    )


def _model(given: Mapping[str, Any]) -> RandomHierarchy:
    from joma.problem.random_hierarchy import RandomHierarchy

    branching = whole_numbers(given.get("branching", 2), "--branching")
    if len(branching) != 1:
        raise BadInput(
            f"--branching holds {len(branching)} numbers",
            expected="one with --law rhm: all its tuples are equally long",
            remedy="write 2, for one",
        )
    return RandomHierarchy(
        given.get("classes", 8),
        given.get("symbols", 8),
        given.get("synonyms", 4),
        branching=branching[0],
        depth=given.get("depth", 3),
        seed=given.get("law_seed", 0),
        uncorrelated=given.get("uncorrelated", False),
    )


def _combinatorial(given: Mapping[str, Any], random: bool) -> Combinatorial:
    from joma.problem.combinatorial import random_hierarchy

    members = whole_numbers(given.get("members", 2), "--members")
    return random_hierarchy(
        given.get("classes", 20),
        whole_numbers(given.get("levels", DEFAULT_LEVELS), "--levels"),
        members[0] if len(members) == 1 else members,
        num_tokens=given.get("tokens", 100),
        length=given.get("length", 30),
        num_alternatives=given.get("alternatives", 1),
        show_probability=given.get("show", DEFAULT_SHOW) if random else 1.0,
        distinct_inputs=given.get("distinct", False),
        seed=given.get("law_seed", 0),
    )


def _without_effect(name: str, law: str, laws: list[str]) -> BadInput:
    return BadInput(
        f"--{name.replace('_', '-')} has no effect with --law {law}",
        expected="options of that law",
        remedy=f"leave it out, or take --law {' or '.join(laws)}",
    )
