import math

import pytest
import torch

from joma.measure.attention_visibility import Visibility

LIKE = torch.zeros(())
BAND = torch.ones(1, 1, 7, 9, dtype=torch.bool).tril(2).triu(-3)

CASES = {
    "all": Visibility(7, 9),
    "causal": Visibility(7, 9, is_causal=True),
    "more queries than keys": Visibility(7, 4, is_causal=True),
    "window": Visibility(7, 9, window=3),
    "window of one": Visibility(7, 9, window=1),
    "causal window": Visibility(7, 9, is_causal=True, window=3),
    "window, later queries": Visibility(7, 9, window=3, lead=4),
    "causal, earlier queries": Visibility(7, 9, is_causal=True, lead=-2),
    "mask": Visibility(7, 9, mask=BAND),
    "causal mask with a window": Visibility(7, 9, is_causal=True, window=2, mask=BAND),
    "keys": Visibility(7, 9, is_causal=True, keys=(torch.arange(9) % 2 == 0)[None, None, None]),
    "key mask": Visibility(7, 9, mask=(torch.arange(9) < 5)[None, None, None]),
}


def seen(visibility: Visibility) -> torch.Tensor:
    """One rule at a time, one query and key at a time."""
    result = torch.zeros(visibility.num_queries, visibility.num_keys, dtype=torch.bool)
    for i in range(visibility.num_queries):
        for j in range(visibility.num_keys):
            back = i + visibility.lead - j
            rules = [not (visibility.is_causal and back < 0)]
            rules.append(visibility.window is None or abs(back) < visibility.window)
            rules.append(visibility.mask is None or bool(visibility.mask.expand(1, 1, 7, -1)[0, 0, i, j]))
            rules.append(visibility.keys is None or bool(visibility.keys[0, 0, 0, j]))
            result[i, j] = all(rules)
    return result


@pytest.mark.parametrize("case", CASES)
def test_hides_what_its_rules_hide(case):
    visibility = CASES[case]
    num_queries, num_keys = visibility.num_queries, visibility.num_keys
    bias = visibility.bias(slice(0, num_queries), slice(0, num_keys), LIKE)
    found = torch.ones(1, 1, num_queries, num_keys, dtype=torch.bool) if bias is None else bias > -math.inf
    assert torch.equal(found.expand(1, 1, num_queries, num_keys)[0, 0], seen(visibility))
    count = visibility.num_visible(LIKE).expand(1, 1, num_queries)[0, 0]
    assert torch.equal(count, seen(visibility).sum(-1))


@pytest.mark.parametrize("case", CASES)
def test_columns_hold_all_that_rows_see(case):
    visibility = CASES[case]
    for start in range(0, visibility.num_queries, 3):
        rows = slice(start, min(start + 3, visibility.num_queries))
        columns = visibility.columns(rows)
        outside = seen(visibility)[rows].clone()
        outside[:, columns] = False
        assert not outside.any()


@pytest.mark.parametrize("case", CASES)
def test_first_key_and_others_are_all_keys(case):
    visibility = CASES[case]
    first, others = visibility.of_first_key(), visibility.of_other_keys()
    skipped = visibility.num_queries - others.num_queries
    expected = seen(visibility)
    for part, keys in ((first, expected[:, :1]), (others, expected[skipped:, 1:])):
        assert torch.equal(part.num_visible(LIKE).expand(1, 1, part.num_queries)[0, 0], keys.sum(-1))
    assert not expected[:skipped, 1:].any()


def test_a_local_block_reads_local_keys():
    visibility = Visibility(10_000, 10_000, is_causal=True, window=100)
    assert all(
        columns.stop - columns.start <= rows.stop - rows.start + 99
        for rows in visibility.row_blocks()
        for columns in [visibility.columns(rows)]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_lowest_number_hides_like_infinity(dtype):
    mask = torch.tensor([0.0, torch.finfo(dtype).min, -math.inf, -9.0], dtype=dtype)[None, None, None]
    bias = Visibility(1, 4, mask=mask).bias(slice(0, 1), slice(0, 4), LIKE)
    assert bias.dtype == LIKE.dtype
    assert bias.flatten().tolist() == [0.0, -math.inf, -math.inf, -9.0]
