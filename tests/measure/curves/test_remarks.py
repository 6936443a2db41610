"""Remarks on training runs: each rule fires on a run with its fault, and not on a sound one."""

import numpy as np
import pandas
import pytest

from joma.measure.curves.remarks import RULES, remarks

STEPS = np.arange(0, 3001, 50)
DIP = np.interp(STEPS, [0, 600, 1500, 3000], [4.0, 4.0, 1.5, 2.5])
LOSS = 3 + 7 * np.exp(-STEPS / 600)


def table(steps=STEPS, **curves):
    """Build a run from curves by metric, of two layers with two heads each; losses have neither."""
    names = {"loss": "val_loss_nats", "entropy": "attention_entropy_nats", "logit": "attention_max_logit"}
    names |= {"first": "attention_first_token_share"}
    rows = []
    for name, values in curves.items():
        places = [(None, None)] if name == "loss" else [(layer, head) for layer in (0, 1) for head in (0, 1)]
        rows += [("mine", s, *place, names[name], v) for place in places for s, v in zip(steps, values, strict=True)]
    return pandas.DataFrame(rows, columns=["run", "step", "layer", "head", "metric", "value"])


def found(frame):
    return {remark.rule: remark for remark in reversed(remarks(frame))}


def test_a_sound_run_has_no_problem_and_a_sentence_on_its_dip():
    said = remarks(table(entropy=DIP, loss=LOSS, logit=2 + STEPS / 1000, first=0.1 + STEPS * 0))
    assert [remark.kind for remark in said] == ["course", "course"]
    assert "from 4 to 1.5 nats at step 1,500, and denser again" in said[0].text
    assert "40% of the fall" in said[0].text
    assert said[0].numbers["came_back"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("rule", "curves", "text"),
    [
        ("collapse", {"entropy": 4 * np.exp(-STEPS / 300)}, "layer 0 collapsed: since step 900 (850 to 900)"),
        ("logits", {"logit": 2 + STEPS / 10}, "above 50 since step 500 (450 to 500), 302 at the end"),
        (
            "loss",
            {"loss": np.interp(STEPS, [0, 1000, 3000], [10, 3, 8])},
            "rose again: 10 nats at first, 3.35 at step 950",
        ),
        ("sinks", {"first": STEPS / 3300}, "more than 50% of attention in 2 of 2 layers (0, 1), first in layer 0"),
        ("sinks", {"first": STEPS / 3000}, "everything in layer 0: more than 95% of attention from step 2,900 (2,850"),
    ],
)
def test_a_fault_is_named_with_its_step_and_numbers(rule, curves, text):
    sound = {"entropy": DIP, "loss": LOSS, "logit": 2 + STEPS / 1000, "first": 0.1 + STEPS * 0}
    assert text in found(table(**(sound | curves)))[rule].text
    assert rule not in found(table(**sound)) or text not in found(table(**sound))[rule].text


def test_a_run_in_which_nothing_moves_says_so():
    flat = 3.6 + np.random.default_rng(0).normal(0, 0.01, len(STEPS))
    still = found(table(entropy=flat, loss=10 + flat))["course"]
    assert ("Nothing moved in 3,000 steps" in still.text, "raise the learning rate" in still.remedy) == (True, True)


def test_attention_that_varies_without_a_clear_movement_is_not_said_to_stand_still():
    entropies = np.array([2.62, 2.33, 2.04, 1.93, 2.22, 1.77, 1.82])
    said = found(table(steps=np.arange(0, 61, 10), entropy=entropies))["course"].text
    assert "between 1.77 and 2.62 nats in 60 steps, 2.62 at first and 1.82 at the end" in said
    assert "stayed" not in said


def test_a_run_that_learns_before_attention_moves_is_not_advised_to_raise_its_learning_rate():
    learning = found(table(entropy=3.6 + STEPS * 0, loss=LOSS))["course"]
    assert "Attention did not move in 3,000 steps, while the loss fell" in learning.text
    assert "learning rate" not in learning.remedy


@pytest.mark.parametrize("probes", [6, 10, 31, 100, 400])
def test_noise_about_a_loss_that_stands_still_is_no_rise(probes):
    generator, steps = np.random.default_rng(3), np.arange(probes)
    said = [found(table(steps, loss=4.3 + generator.normal(0, 0.01, probes)))["loss"].text for _ in range(50)]
    assert sum("rose again" in text for text in said) <= 1


def test_a_steep_rise_is_seen_with_few_probes():
    steps = np.arange(10)
    loss = np.interp(steps, [0, 5, 9], [10, 3, 8])
    assert "rose again" in found(table(steps, loss=loss))["loss"].text


def test_a_broken_run_is_not_advised_to_go_on():
    said = remarks(table(entropy=4 - STEPS / 3000, logit=2 + STEPS / 10))
    assert [(remark.kind, bool(remark.remedy)) for remark in said[:1]] == [("problem", True)]
    assert {remark.remedy for remark in said if remark.kind == "open"} == {""}


def test_large_numbers_have_separators():
    assert "above 50 since step 50 (0 to 50), 167,000 at the end" in found(table(logit=STEPS * 55.7))["logits"].text


def test_noise_about_a_falling_loss_is_no_rise():
    generator = np.random.default_rng(2)
    noisy = [LOSS + generator.normal(0, 0.1, len(STEPS)) for _ in range(50)]
    assert not any("rose again" in found(table(entropy=DIP, loss=loss))["loss"].text for loss in noisy)


@pytest.mark.parametrize("num", [8, 30, 61])
def test_noise_about_a_constant_loss_is_no_rise(num):
    generator = np.random.default_rng(3)
    noisy = [5 + generator.normal(0, 0.1, num) for _ in range(50)]
    said = [found(table(STEPS[:num], loss=loss))["loss"].text for loss in noisy]
    assert sum(" rose" in text for text in said) <= 4


def test_a_loss_that_only_rises_does_not_rise_again():
    assert "loss rose: 3 nats at first" in found(table(loss=3 + STEPS / 1000))["loss"].text


def test_entropy_that_never_falls_below_its_start_does_not_become_sparser():
    generator = np.random.default_rng(4)
    rising = [np.interp(STEPS, [0, 600, 1500, 3000], [2.0, 3.0, 2.2, 3.5]) + generator.normal(0, 0.01, len(STEPS))]
    rising += [2 + np.abs(np.cumsum(generator.normal(0, 0.1, 8))) * (STEPS[:8] > 0) for _ in range(50)]
    said = [found(table(STEPS[: len(values)], entropy=values))["course"].text for values in rising]
    assert not any("became sparser" in text for text in said)


def test_entropy_of_nothing_but_zeros_has_not_collapsed():
    assert "collapse" not in found(table(entropy=0.0 * STEPS))


def test_an_outlier_is_not_the_lowest_level():
    spoilt = DIP.copy()
    spoilt[20] = 0.1
    assert "to 1.5 nats at step 1,500" in found(table(entropy=spoilt))["course"].text


def test_a_run_that_is_still_falling_is_open():
    remark = found(table(entropy=4 - STEPS / 3000, loss=LOSS))["course"]
    assert (remark.kind, "still becoming sparser" in remark.text) == ("open", True)


def test_shuffled_steps_lose_the_dip():
    generator = np.random.default_rng(1)
    said = [found(table(entropy=generator.permutation(DIP), loss=LOSS))["course"].text for _ in range(20)]
    assert not any("denser again" in text for text in said)


def test_gaps_few_probes_and_lost_values_are_reported():
    steps = np.array([0, 10, 20, 30, 40, 2000])
    texts = [remark.text for remark in remarks(table(steps, entropy=np.linspace(4, 3, 6)))]
    assert any("No probe between steps 40 and 2,000" in text for text in texts)
    assert any("6 probes only" in text for text in texts)
    assert any(
        "3 probes only: too few for phases" in remark.text for remark in remarks(table(steps[:3], entropy=DIP[:3]))
    )
    assert any("No loss was measured" in text for text in texts)
    lost = table(entropy=np.where(STEPS > 2000, np.nan, DIP), loss=LOSS)
    assert any("NaN or infinite measurements" in remark.text for remark in remarks(lost))


def test_attention_and_losses_that_end_before_the_probes_are_reported():
    whole = table(entropy=DIP, logit=2 + STEPS / 1000, loss=LOSS)
    is_late = (whole["step"] > 2000) & ((whole["metric"] == "val_loss_nats") | (whole["layer"] == 1))
    cut = whole[~(is_late & (whole["metric"] != "attention_max_logit"))]
    texts = {remark.text: remark.kind for remark in remarks(cut)}
    attention = [text for text in texts if "Attention of layer 1 was last measured at step 2,000, though" in text]
    assert [texts[text] for text in attention] == ["problem"]
    assert "The held-out loss was last measured at step 2,000: it is no longer finite, or was not logged" in texts
    rare = whole[(whole["metric"] == "attention_max_logit") | (whole["step"] % 400 == 0)]
    assert not any("last measured" in remark.text for remark in [*remarks(whole), *remarks(rare)])


def test_problems_come_first_and_every_rule_is_tried():
    said = remarks(table(entropy=4 * np.exp(-STEPS / 300), logit=2 + STEPS / 10))
    kinds = [remark.kind == "problem" for remark in said]
    assert kinds == sorted(kinds, reverse=True)
    assert set(RULES) == {"collapse", "logits", "course", "loss", "sinks", "gaps"}
