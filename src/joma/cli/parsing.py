"""How options are read and explained: one style of help, one line for a wrong use, options that commands share."""

from __future__ import annotations

import difflib
import re
from argparse import SUPPRESS, Action
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn

import jsonargparse
from jsonargparse.typing import NonNegativeInt, PositiveInt, restricted_number_type

from joma.serialization import require_plain_yaml
from joma.terminal import printable

Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**63)])

_EXPECTED = {
    Seed: "a whole number of at least 0 and below 2^63",
    PositiveInt: "a whole number of at least 1",
    NonNegativeInt: "a whole number of at least 0",
    int: "a whole number",
    float: "a number",
}


_SHARED: dict[str, dict[str, Any]] = {
    "--text": {
        "type": str,
        "metavar": "FILE|NAME",
        "help": "a file, a folder, wikitext2, wikitext103; default: the text that ships with Python",
    },
    "--seed": {"type": Seed, "default": 0, "metavar": "N", "help": "of everything that is drawn at random"},
    "--shuffled": {"action": "store_true", "help": "tokens of a sequence in random order in place of rising"},
    "--device": {"choices": ["cpu", "auto"], "default": "cpu", "help": "auto: an accelerator where there is one"},
    "--engine": {
        "choices": ["processes", "ray"],
        "default": "processes",
        "help": "where networks are trained or steps measured",
    },
    "--workers": {
        "type": PositiveInt,
        "metavar": "N",
        "help": "networks or steps at a time, or threads of a single one (default: as many as fit)",
    },
    "--keep": {
        "action": "store_true",
        "help": "keep files that are removed otherwise: downloads from a hub, all but the last weights of networks",
    },
    "--json": {"action": "store_true", "help": "print JSON in place of tables, for machines"},
}
"""Options that mean the same in every command that has them."""


def add_commands(parser: Parser, package: str, commands: Mapping[str, str], metavar: str) -> None:
    """Add commands by name, each with its summary and the options of its module in the package."""
    below = parser.add_subcommands(required=True, metavar=metavar)
    for name, summary in commands.items():
        command, module = Parser(description=summary), import_module(f"{package}.{name}")
        below.add_subcommand(name, command, help=summary)  # before its own options, which may be commands again
        if not hasattr(module, "COMMANDS"):
            command.add_argument(
                "--config", action=_ConfigFile, help="read options from a YAML file; flags override it"
            )
        module.add_options(command)


class _ConfigFile(jsonargparse.ActionConfigFile):
    """A file of options, which has to be text."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        try:
            super().__call__(parser, cfg, values, option_string)
        except UnicodeDecodeError as error:
            raise TypeError(f'Parser key "config": {values} is no text ({error.reason})') from error


def _load(text: str) -> Any:
    """Decode a value or a file of options as jsonargparse does; raise ``ValueError`` for what is no plain YAML."""
    import yaml

    require_plain_yaml(text)
    try:
        return jsonargparse.get_loader("yaml")(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


_MODE = "plain yaml"
jsonargparse.set_loader(_MODE, _load, (ValueError,))


class _Help(jsonargparse.DefaultHelpFormatter):
    """Help without types; a default is shown where there is one and the text does not say it."""

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if "%(flags)" in text or action.option_strings == ["--print-config"]:
            return "print all options as YAML, for --config, and stop"
        is_shown = action.option_strings and action.default not in (None, False, SUPPRESS) and "default" not in text
        return f"{text} (default: %(default)s)" if is_shown else text

    def _format_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None) -> str:
        words = [
            f"[{_name(action)} ...]" if action.nargs == "*" else _name(action)
            for action in actions
            if not action.option_strings and action.help != SUPPRESS
        ]
        start = "usage: " if prefix is None else prefix
        return f"{start}{self._prog.replace(' [options]', '')} [options] {' '.join(words)}".rstrip() + "\n\n"


class Parser(jsonargparse.ArgumentParser):
    """A parser that reports a wrong use in one line, with the nearest name that exists."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            formatter_class=_Help,
            allow_abbrev=False,
            print_config="--print-config",
            exit_on_error=True,
            parser_mode=_MODE,
            **settings,
        )
        # Before Python 3.14, `--mu -1,2` is refused: only `-1` alone is taken for a number that is no option.
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def share(self, *options: str) -> None:
        """Add options that other commands have too."""
        for option in options:
            self.add_argument(option, **_SHARED[option])

    def validate(self, cfg: Any, *args: Any, **settings: Any) -> None:
        """Check the options; of a command below a command too, for which jsonargparse 4.48 raises a bare KeyError."""
        try:
            super().validate(cfg, *args, **settings)
        except KeyError as error:
            if type(error) is not KeyError:
                raise
            assert self._subcommands_action is not None
            below = self._subcommands_action.choices[cfg.subcommand]
            below.validate(cfg[cfg.subcommand], *args, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line and exit with 2."""
        parser = getattr(ex, "subcommand_parser", None) or self
        self.exit(2, f"joma: {printable(parser.explain(message, ex))}\n")

    def explain(self, message: str, ex: Exception | None) -> str:
        """Say what is wrong, what was expected and what to do, in one line."""
        command = self.prog.replace("[options] ", "")
        see = f"see `{command} --help`"
        options = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        if found := re.match(r"unrecognized arguments: (.+)", message):
            words = found[1].split()
            odd = next((word for word in words if word.startswith("-")), words[0]).partition("=")[0]
            if not odd.startswith("-"):
                return f"{odd!r} is one word too many; expected what `{command} --help` lists; leave it out"
            return f"`{command}` has no option {odd}; {_nearest(odd, options, see)}"
        if found := re.search(r"does not accept option '(.+)'", message):
            odd = f"--{found[1].replace('_', '-')}"
            return f"`{command}` has no option {odd}, which a file sets; {_nearest(odd, options, see)}"
        if found := re.match(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message):
            name, value, choices = found[1], found[2], re.findall(r"[\w-]+", found[3])
            what = f"{name} is {value!r}" if name.startswith("-") else f"there is no command {value!r}"
            near = "auto is an accelerator where there is one" if name == "--device" else _nearest(value, choices, see)
            return f"{what}; expected one of {', '.join(choices)}; {near}"
        if found := re.match(r"the following arguments are required: ([\w.]+)", message):
            action = self._below(found[1].split("."))
            return f"{_name(action)} is missing; expected {action.help}; see `{command}{_path(found[1])} --help`"
        if found := re.match(r"argument (--\S+): expected one argument", message):
            return f"{found[1]} has no value; expected {_expected(self._action(found[1]))}; {see}"
        if found := re.match(r'Parser key "config": (.*)', message):
            return f"--config: {found[1]}; expected a YAML file of options; `{command} --print-config` prints one"
        if found := re.match(r'Parser key "([\w.]+)":', message):
            action = self._below(found[1].split("."))
            value = re.search(
                r"(?:Got value: |Given value: |: )'?([^:']*?)(?:'(?: not .*)?| does not conform.*)?$", message
            )
            received = f"is {value[1]!r}" if value else "cannot be used"
            return f"{_name(action)} {received}; expected {_expected(action)}; {see}"
        return f"{' '.join(message.split())}; {see}"

    def _action(self, option: str) -> Action:
        return next(action for action in self._actions if option in action.option_strings)

    def _below(self, path: list[str]) -> Action:
        """The action of a dotted key, through commands below commands."""
        for action in self._actions:
            if len(path) > 1 and isinstance(action.choices, dict) and path[0] in action.choices:
                return action.choices[path[0]]._below(path[1:])
            if action.dest == path[0]:
                return action
        raise KeyError(path)


def _nearest(odd: str, names: list[str], see: str) -> str:
    near = difflib.get_close_matches(odd, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else see


def _name(action: Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)


def _path(key: str) -> str:
    return "".join(f" {part}" for part in key.split(".")[:-1])


def _expected(action: Action) -> str:
    kind = getattr(action, "_typehint", action.type)
    if action.choices:
        return f"one of {', '.join(action.choices)}"
    return _EXPECTED.get(kind, action.help or "a value")
