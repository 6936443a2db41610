import math

import pytest
import torch
from small_models import small_batch, small_model

from joma.measure.capture.calls import AttentionCall, mean_over_queries
from joma.measure.watch.probing import AttentionProbe


def test_a_mean_is_over_counted_queries_and_nan_without_any():
    values = torch.arange(12.0).view(2, 2, 3)
    counted = torch.tensor([[[True, False, True], [False, False, False]], [[False, True, False], [False] * 3]])
    found = mean_over_queries(values, counted)
    assert found[0] == (0 + 2 + 7) / 3
    assert found[1].isnan()


def test_a_query_without_visible_keys_counts_only_with_a_sink():
    q, mask = torch.randn(1, 2, 6, 8), torch.ones(6, 6).bool().tril()
    mask[4] = False
    plain, with_sinks = (AttentionCall(0, "", q, q, attn_mask=mask, sinks=sinks) for sinks in (None, torch.zeros(2)))
    assert plain.queries().every.expand(1, 2, 6)[0, 0].tolist() == [True] * 4 + [False, True]
    assert plain.queries().spreading.expand(1, 2, 6)[0, 0].tolist() == [False] + [True] * 3 + [False, True]
    assert with_sinks.queries().every.all()
    assert not with_sinks.queries().spreading[..., 4].any()


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_a_metric_without_queries_gives_a_warning_and_no_row(kind):
    model, batch = small_model(kind), small_batch(kind)
    with pytest.warns(RuntimeWarning, match="layer 0 .* has no query in the probe batch, except padding, that sees"):
        assert AttentionProbe(model, {**batch, "attention_mask": torch.zeros(3, 12).long()}).rows() == []
    with pytest.warns(RuntimeWarning, match="enough keys for attention_entropy_normalized, attention_entropy_without"):
        rows = AttentionProbe(model, {"input_ids": batch["input_ids"][:, :1]}).rows()
    expected = {"attention_entropy_nats": 0, "attention_sum_of_squares": 1, "attention_first_token_share": 1}
    assert {row.metric: row.value for row in rows if row.metric != "attention_max_logit"} == expected
    assert all(math.isfinite(row.value) for row in rows)
