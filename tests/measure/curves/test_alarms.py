"""Alarms: each fires on its fault, as soon as it lasts two probes, and not on a control."""

import numpy as np
import pandas
import pytest

from joma.measure.curves.alarms import Alarms
from joma.measure.curves.remarks import remarks
from joma.records import Row

STEPS = np.arange(0, 1001, 50)
DIP = np.interp(STEPS, [0, 200, 500, 1000], [4.0, 4.0, 0.3, 2.5])  # to 7.5 % of its highest level
NAMES = {
    "collapse": "attention_entropy_nats",
    "logits": "attention_max_logit",
    "sinks": "attention_first_token_share",
}
FAULTS = {
    "collapse": (4 * np.exp(-STEPS / 100), 300),
    "logits": (2 + STEPS / 10, 500),
    "sinks": (STEPS / 700, 700),
}
SOUND = {"collapse": DIP, "logits": 2 + STEPS / 25, "sinks": 0.1 + STEPS / 1200}


def probes(curves, layers=(0, 1)):
    """Return rows by step, for two heads about the value of each curve."""
    return {
        int(step): [
            Row(layer, head, None, NAMES[rule], float(values[at]) * (0.9 + 0.2 * head))
            for rule, values in curves.items()
            for layer in layers
            for head in (0, 1)
        ]
        for at, step in enumerate(STEPS)
    }


def found(of_steps, earlier=None):
    alarms = Alarms(earlier)
    return [alarm for step, rows in of_steps.items() for alarm in alarms.after(step, rows)]


@pytest.mark.parametrize("rule", FAULTS)
def test_a_fault_gives_one_alarm_at_its_second_probe(rule):
    values, since = FAULTS[rule]
    (alarm,) = found(probes(SOUND | {rule: values}))
    at = list(STEPS).index(since)
    assert (alarm.rule, alarm.since, alarm.step) == (rule, since, since + 50)
    assert alarm.values == {layer: pytest.approx(values[at + 1]) for layer in (0, 1)}
    assert "layers 0, 1: " in alarm.text
    assert f"since step {since:,}" in alarm.text


def test_a_sound_run_gives_none():
    assert found(probes(SOUND)) == []


@pytest.mark.parametrize("rule", FAULTS)
def test_one_odd_probe_gives_none(rule):
    values = SOUND[rule].copy()
    values[7] = {"collapse": 0.001, "logits": 4000, "sinks": 1}[rule]
    assert found(probes(SOUND | {rule: values})) == []


@pytest.mark.parametrize("rule", FAULTS)
def test_the_same_values_in_another_order_give_none(rule):
    values = np.random.default_rng(3).permutation(FAULTS[rule][0])
    values[1::2] = SOUND[rule][1::2]  # so that no two probes follow each other beyond the threshold
    assert found(probes(SOUND | {rule: values})) == []


def test_large_logits_from_the_start_give_none():
    assert found(probes(SOUND | {"logits": 80 + STEPS / 100})) == []


def test_a_layer_that_follows_gives_an_alarm_of_its_own():
    values, _ = FAULTS["collapse"]
    later = np.concatenate([np.full(6, values[0]), values[:-6]])
    first, second = probes({"collapse": values}, (0,)), probes({"collapse": later}, (3,))
    alarms = found({step: first[step] + second[step] for step in first})
    assert [(alarm.step, list(alarm.values)) for alarm in alarms] == [(350, [0]), (650, [3])]


def test_earlier_probes_count_and_are_not_reported_again():
    values, _ = FAULTS["collapse"]
    of_steps = probes({"collapse": values})
    for split, expected in ((350, [350]), (400, [])):
        earlier = {step: rows for step, rows in of_steps.items() if step < split}
        later = {step: rows for step, rows in of_steps.items() if step >= split}
        assert [alarm.step for alarm in found(later, earlier)] == expected


@pytest.mark.parametrize("curves", [SOUND, *({**SOUND, rule: values} for rule, (values, _) in FAULTS.items())])
def test_remarks_on_the_finished_run_name_the_same_problems(curves):
    rows = [("mine", step, *row[:2], *row[3:5]) for step, of_step in probes(curves).items() for row in of_step]
    frame = pandas.DataFrame(rows, columns=["run", "step", "layer", "head", "metric", "value"])
    said = {(one.rule, one.numbers["since"]) for one in remarks(frame) if one.kind == "problem"}
    assert {(alarm.rule, alarm.since) for alarm in found(probes(curves))} == said
