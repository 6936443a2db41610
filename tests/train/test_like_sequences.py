"""Likes as a text whose words are items."""

import numpy as np
import pandas
import torch

from joma.tables.ratings import read_ratings
from joma.train.like_sequences import like_tokens
from joma.train.text.vocabulary import load_tokens, save_tokens

TABLE = pandas.DataFrame(
    [(user, item, 5, -item) for user in range(10) for item in range(user % 3 + 2)],
    columns=["user", "item", "value", "time"],
)


def sequences(tokens):
    return [
        part.tolist()[:-1] for part in torch.split(tokens, np.diff(np.flatnonzero(tokens == 0), prepend=-1).tolist())
    ]


def test_each_users_likes_are_one_sequence_in_the_order_of_time_and_a_fifth_of_the_users_is_held_out():
    tokens = like_tokens(read_ratings(TABLE.assign(time=-TABLE["time"])))
    parts = sequences(tokens.train), sequences(tokens.held_out)
    assert [len(part) for part in parts] == [8, 2]
    assert sorted(map(len, parts[0] + parts[1])) == sorted(user % 3 + 2 for user in range(10))
    assert all(part == sorted(part) for part in parts[0] + parts[1])
    back = sequences(like_tokens(read_ratings(TABLE)).train)
    assert all(part == sorted(part, reverse=True) for part in back)


def test_tokens_survive_a_file_and_depend_on_the_seed(tmp_path):
    one, other = (like_tokens(read_ratings(TABLE), seed) for seed in (0, 1))
    save_tokens(one, tmp_path / "likes.safetensors")
    assert load_tokens(tmp_path / "likes.safetensors").digest == one.digest != other.digest
