"""Parts are sorted by whether they make the label, and subjects with a part in another kind do not count."""

from joma.train.images.parts import Occurrence, sorted_parts


def test_part_has_a_kind_and_leaves_out_subjects_that_have_it_in_another():
    subjects = [
        [Occurrence("mouth", True, 1), Occurrence("tree", False, 2)],
        [Occurrence("mouth", False, 3)],
        [Occurrence("mouth", True, 2), Occurrence("mouth", False, 1)],
        [],
        [Occurrence("tree", False, 4)],
    ]
    parts, presence = sorted_parts(subjects, fewest=1)
    assert [(part.name, part.kind, part.depth) for part in parts] == [
        ("mouth", "elsewhere", 2.0),
        ("mouth", "label", 1.5),
        ("tree", "other", 3.0),
    ]
    assert presence.T.tolist() == [[-1, 1, 1, 0, 0], [1, -1, 1, 0, 0], [1, 0, 0, 0, 1]]


def test_parts_of_too_few_subjects_or_of_nearly_all_are_left_out():
    subjects = [[Occurrence("all", True)], [Occurrence("all", True), Occurrence("one", False)]]
    parts, presence = sorted_parts(subjects * 3, fewest=3)
    assert [part.name for part in parts] == ["one"]
    assert parts[0].depth is None
    assert presence.shape == (6, 1)
    assert sorted_parts(subjects, fewest=3)[1].shape == (2, 0)
