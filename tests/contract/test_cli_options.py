"""The command line: frozen options, no abbreviations, help for every option."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

import frozen
from joma.cli import COMMANDS, parser

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
    return capsys.readouterr().err


def test_options_equal_the_frozen_ones():
    changed = frozen.difference("cli_options.txt")
    assert not changed, f"if this is meant, run `.venv/bin/python tests/frozen.py` and commit the list\n{changed}"


@pytest.mark.parametrize(("command", "name"), OPTIONS, ids=" ".join)
def test_an_abbreviated_option_is_refused(command, name, capsys):
    others = {other for place, other in OPTIONS if place == command}
    abbreviated = next(name[:-cut] for cut in range(1, len(name)) if name[:-cut] not in others)
    assert f"unrecognized arguments: {abbreviated}" in refusal([*command.split()[1:], f"{abbreviated}=1"], capsys)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("wrong", ["--jsno", "--ouT=x", "-j", "--out-"])
def test_a_mistyped_option_is_refused(command, wrong, capsys):
    assert f"unrecognized arguments: {wrong}" in refusal([command, wrong], capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_option_in_a_file_is_refused(command, tmp_path, capsys):
    settings = tmp_path / "settings.yaml"
    settings.write_text("ouT: x\n")
    assert "'ouT'" in refusal([command, "--config", str(settings), *BELOW.get(command, [])], capsys)


@pytest.mark.parametrize("words", [[], *([command[:-1]] for command in COMMANDS), ["Reproduce"]], ids=" ".join)
def test_a_missing_or_mistyped_command_is_refused(words, capsys):
    message = refusal(words, capsys)
    assert all(command in message for command in COMMANDS)


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
