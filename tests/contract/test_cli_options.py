"""The command line: frozen options, no abbreviations, help for every option."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

import frozen
from joma.cli import COMMANDS, main, parser
from joma.cli.tree import COMMANDS as TREE

OPTIONS = [
    (command, name)
    for command, option in frozen.options_of(parser())
    for name in option.option_strings
    if name.startswith("--")
]

BELOW = {"tree": ["sample"]}
"""A subcommand of each command that has subcommands."""


def output(*words: str | Path) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Parse without running, so that a wrongly accepted option starts nothing."""
    with pytest.raises(SystemExit) as refused:
        parser().parse_args(words)
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("joma: ")
    return line


def test_options_equal_the_frozen_ones():
    changed = frozen.difference("cli_options.txt")
    assert not changed, f"if this is meant, run `.venv/bin/python tests/frozen.py` and commit the list\n{changed}"


@pytest.mark.parametrize(("command", "name"), OPTIONS, ids=" ".join)
def test_an_abbreviated_option_is_refused(command, name, capsys):
    others = {other for place, other in OPTIONS if place == command}
    abbreviated = next(name[:-cut] for cut in range(1, len(name)) if name[:-cut] not in others)
    line = refusal([*command.split()[1:], f"{abbreviated}=1"], capsys)
    assert f"has no option {abbreviated}; " in line
    assert f"did you mean {name}?" in line or "did you mean --" in line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("wrong", ["--jsno", "--ouT=x", "-j", "--out-"])
def test_a_mistyped_option_is_refused(command, wrong, capsys):
    assert f"`joma {command}` has no option {wrong.partition('=')[0]}; " in refusal([command, wrong], capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_option_in_a_file_is_refused(command, tmp_path, capsys):
    settings = tmp_path / "settings.yaml"
    settings.write_text("ouT: x\n")
    words = [command, *BELOW.get(command, []), "--config", str(settings)]
    assert "no option --ouT" in refusal(words, capsys)


@pytest.mark.parametrize("wrong", [*(command[:-1] for command in COMMANDS), "sovle", "Reproduce"])
def test_a_mistyped_command_is_refused_with_the_nearest_one(wrong, capsys):
    line = refusal([wrong], capsys)
    assert f"there is no command {wrong!r}; expected one of {', '.join(COMMANDS)}; did you mean " in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["tree", "smaple"],
            "there is no command 'smaple'; expected one of sample, cooccurrence, train, align, learn, anomalies; ",
        ),
        (["solve", "--tempreature", "3"], "`joma solve` has no option --tempreature; did you mean --temperature?"),
        (["reproduce", "--seeds", "0"], "--seeds is '0'; expected a whole number of at least 1; "),
        (["reproduce", "--seeds"], "--seeds has no value; expected a whole number of at least 1; "),
        (["tree", "sample", "--samples", "x"], "--samples is 'x'; expected a whole number of at least 1; "),
        (["solve", "--gain", "much"], "--gain is 'much'; expected a number; "),
        (["scan"], "SOURCE is missing; expected a folder with saved steps, a weight file, or owner/name on the hub; "),
        (["scan", "x", "--device", "gpu"], "--device is 'gpu'; expected one of cpu, auto; auto is an accelerator"),
        (["scan", "x", "y"], "'y' is one word too many; "),
        (["solve", "--config", "no.yaml"], "--config: File does not exist: "),
    ],
    ids=" ".join,
)
def test_a_wrong_use_is_one_line_with_what_was_expected(words, expected, capsys):
    assert refusal(words, capsys).startswith(f"joma: {expected}")


def test_a_wrong_value_in_a_file_is_refused(tmp_path, capsys):
    settings = tmp_path / "settings.yaml"
    settings.write_text("attention: softmx\n")
    line = refusal(["solve", "--config", str(settings)], capsys)
    assert line.startswith("joma: --attention is 'softmx'; expected one of softmax, exp; ")


@pytest.mark.parametrize(("words", "shown"), [([], COMMANDS), (["tree"], ["sample", "align"])], ids=["joma", "tree"])
def test_a_command_that_needs_another_word_prints_its_help(words, shown, capsys):
    assert main(words) == 0
    page = capsys.readouterr().out
    assert all(f"    {command} " in page for command in shown)


@pytest.mark.parametrize("command", [*COMMANDS, *(f"tree {name}" for name in TREE)])
def test_help_shows_no_types_and_no_empty_defaults(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"usage: joma {command} [options]")
    assert not re.search(r"\(type:|null|default: (None|False)|\[options\].*\[options\]", page)


def test_options_of_one_name_have_one_meaning():
    """The same help, type and choices in every command, except options that are specific to a law or a command."""
    own = {"--out", "--samples", "--length", "--attention", "--loss", "--tokenizer", "--temperature", "--tokens"}
    own |= {"--classes", "--hidden", "--help", "--seeds", "--t", "--batch-size", "--learning-rate", "--num-steps"}
    own |= {"--profile", "--method"}
    seen: dict[str, set[tuple]] = {}
    for _command, option in frozen.options_of(parser()):
        for name in set(option.option_strings) - own:
            choices = tuple(option.choices) if option.choices else ()
            seen.setdefault(name, set()).add((option.help, choices, option.default))
    assert {name: kinds for name, kinds in seen.items() if len(kinds) > 1} == {}


def test_help_lists_every_command_with_a_description():
    page = " ".join(output(sys.executable, "-m", "joma", "--help").split())
    for command, summary in COMMANDS.items():
        assert f"{command} {summary}" in page


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_description(command):
    silent = [
        option.dest
        for place, option in frozen.options_of(parser())
        if place.split()[1:2] == [command] and option.help in (None, "", argparse.SUPPRESS)
    ]
    assert not silent


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_python_m_joma_runs_the_command(words):
    script = Path(sys.executable).with_name("joma")
    assert output(sys.executable, "-m", "joma", *words) == output(script, *words) != ""
