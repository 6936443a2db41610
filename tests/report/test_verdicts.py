"""The verdict table in a terminal."""

import io
from dataclasses import replace

from rich.console import Console

from joma.report.verdicts import verdict_table


def printed(table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system="truecolor", force_terminal=True)
    console.print(table)
    return console.file.getvalue()


def test_a_row_per_claim_with_value_criterion_control_and_verdict(outcomes):
    text = printed(verdict_table(outcomes), 160)
    for outcome in outcomes:
        assert outcome.claim.id in text
    for part in ("0.470 ± 0.040", "≥ 0.2", "0.003 ± 0.047", "undecided", "not evaluated", "12 s"):
        assert part in text, part
    assert "theorem1.softmax: loss is NaN at step 40" in text


def test_verdicts_are_coloured(outcomes):
    lines = printed(verdict_table(outcomes), 160).splitlines()
    colours = {name: next(line for line in lines if name in line) for name in ("does not hold", "undecided")}
    assert "\x1b[1;31mdoes not hold" in colours["does not hold"]
    assert "\x1b[1;33mundecided" in colours["undecided"]


def test_markup_in_texts_is_shown_literally(outcomes):
    named = replace(outcomes[1], error="[bold red]loud[/] and [/nonsense]")
    assert "[bold red]loud[/] and [/nonsense]" in printed(verdict_table([named]), 160)


def test_a_skipped_claim_has_its_reason_and_is_not_a_failure(outcomes):
    skipped = replace(outcomes[1], agreement=None, error="", skipped="the hub did not answer; check the network")
    text = printed(verdict_table([skipped]), 160)
    assert "skipped" in text
    assert f"{skipped.claim.id}: the hub did not answer; check the network" in text
    assert "not evaluated" not in text


def test_a_narrow_terminal_does_not_break_claim_ids(outcomes):
    lines = printed(verdict_table(outcomes), 80).splitlines()
    for outcome in outcomes:
        assert any(outcome.claim.id in line for line in lines)
