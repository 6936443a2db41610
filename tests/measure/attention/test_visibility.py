import math
import warnings

import pytest
import torch

from joma.measure.attention.visibility import Visibility, hides, settled

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
    """Return which keys are visible, by applying each rule to each pair of query and key."""
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
def test_the_bias_hides_exactly_the_keys_that_the_rules_hide(case):
    visibility = CASES[case]
    num_queries, num_keys = visibility.num_queries, visibility.num_keys
    bias = visibility.bias(slice(0, num_queries), slice(0, num_keys), LIKE)
    found = torch.ones(1, 1, num_queries, num_keys, dtype=torch.bool) if bias is None else bias > -math.inf
    assert torch.equal(found.expand(1, 1, num_queries, num_keys)[0, 0], seen(visibility))
    count = visibility.census(LIKE).num_visible.expand(1, 1, num_queries)[0, 0]
    assert torch.equal(count, seen(visibility).sum(-1))


@pytest.mark.parametrize("case", CASES)
def test_columns_contain_all_visible_keys_of_the_rows(case):
    visibility = CASES[case]
    for start in range(0, visibility.num_queries, 3):
        rows = slice(start, min(start + 3, visibility.num_queries))
        columns = visibility.columns(rows)
        outside = seen(visibility)[rows].clone()
        outside[:, columns] = False
        assert not outside.any()


@pytest.mark.parametrize("case", CASES)
def test_without_the_first_key_each_query_sees_its_other_keys(case):
    visibility, expected = CASES[case], seen(CASES[case])
    others = visibility.of_other_keys()
    skipped = visibility.num_queries - others.num_queries
    counts = others.census(LIKE).num_visible.expand(1, 1, others.num_queries)[0, 0]
    assert torch.equal(counts, expected[skipped:, 1:].sum(-1))
    assert not expected[:skipped, 1:].any()


@pytest.mark.parametrize("case", CASES)
def test_selected_queries_see_the_same_keys_as_before(case):
    visibility, rows = CASES[case], torch.tensor([0, 2, 3, 6])
    few = visibility.of_queries(0, rows)
    bias = few.bias(slice(1, 4), few.columns(slice(1, 4)), LIKE)
    columns = few.columns(slice(1, 4))
    expected = seen(visibility)[rows[1:]][:, columns]
    found = torch.ones(3, expected.shape[1]).bool() if bias is None else bias.expand(1, 1, *expected.shape)[0, 0] > -9
    assert torch.equal(found, expected)
    assert seen(visibility)[rows[1:]].sum() == expected.sum()


@pytest.mark.parametrize("case", CASES)
def test_the_census_counts_the_visible_keys(case):
    visibility = CASES[case]
    census, expected = visibility.census(LIKE), seen(visibility)
    shape = (1, 1, visibility.num_queries)
    assert torch.equal(census.num_visible.expand(shape)[0, 0], expected.sum(-1))
    first = [int(row.nonzero()[0]) if row.any() else visibility.num_keys for row in expected]
    assert census.first.expand(shape)[0, 0].tolist() == first
    assert torch.equal(census.seen[0, 0], expected.any(0))


def test_a_block_of_a_sliding_window_reads_only_near_keys():
    visibility = Visibility(10_000, 10_000, is_causal=True, window=100)
    assert all(
        columns.stop - columns.start <= rows.stop - rows.start + 99
        for rows in visibility.row_blocks()
        for columns in [visibility.columns(rows)]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_negative_numbers_hide_and_graded_biases_do_not(dtype):
    by_hand = torch.tensor([[3.0, -1e4], [-4e3, -1e4 + 5], [0.0, -6e4]], dtype=dtype)
    assert hides(by_hand).tolist() == [[False, True]] * 3
    graded = -torch.arange(0, 12_000, 8.0).to(dtype)[None]
    assert not hides(graded).any()
    graded[0, 5] = torch.finfo(dtype).min
    assert hides(graded).nonzero().tolist() == [[0, 5]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_lowest_number_hides_like_infinity(dtype):
    mask = torch.tensor([0.0, torch.finfo(dtype).min, -math.inf, -9.0], dtype=dtype)[None, None, None]
    bias = Visibility(1, 4, mask=mask).bias(slice(0, 1), slice(0, 4), LIKE)
    assert bias.dtype == LIKE.dtype
    assert bias.flatten().tolist() == [0.0, -math.inf, -math.inf, -9.0]


@pytest.mark.parametrize("hidden", [-100.0, -1e3, -8e3])
@pytest.mark.parametrize("bias", [torch.zeros(1, 1, 6, 6), -0.5 * torch.arange(6.0).expand(1, 2, 6, 6)])
def test_numbers_far_below_all_others_hide_keys(hidden, bias):
    sees = torch.ones(6, 6).bool().tril() & (torch.arange(6) != 2)
    mask = torch.cat([torch.where(sees, bias, bias + hidden), bias])  # the second sequence hides nothing
    expected = torch.cat([bias.masked_fill(~sees, -math.inf), bias])
    assert torch.equal(settled(mask, largest_score=5.0), expected)


@pytest.mark.parametrize("hidden", [-100.0, -1e3])
def test_numbers_that_scores_may_make_up_for_count_as_written_with_a_warning(hidden):
    mask = torch.zeros(1, 1, 6, 6).masked_fill(~torch.ones(6, 6).bool().tril(), hidden)
    with pytest.warns(
        RuntimeWarning, match=f"adds {hidden:g} to scores that may be as large as 490, which may not hide"
    ):
        assert torch.equal(settled(mask, largest_score=490.0), mask)


def test_graded_biases_count_as_written():
    distances = torch.arange(16_384.0).flip(0)[None, None, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mask in (
            -0.7 * distances,
            torch.randn(1, 1, 5, 5),
            torch.full((1, 1, 1, 5), -1e3),
            -9.0 * distances[..., :7],
        ):
            assert torch.equal(settled(mask, largest_score=1.0), mask)
