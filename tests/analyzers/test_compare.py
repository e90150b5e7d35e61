"""Verdicts by the number of runs, and stages matched by path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucost.analyzers.compare import NO_STAGE, Rule, StageShape, match_stages, verdict

HISTORY = [100.0, 101.0, 99.0, 102.0, 98.0, 100.5]


def stage(path: str, share: float = 0.2) -> StageShape:
    parent, _, name = path.rpartition(" > ")
    return StageShape(path, name or path, parent or None, share)


def stages(*paths: str) -> list[StageShape]:
    return [stage(path) for path in paths]


def pairs(base, head) -> list[tuple]:
    return [(pair.base, pair.head, pair.renamed) for pair in match_stages(base, head)]


def test_fewer_than_five_in_the_history_decide_nothing_however_large_the_change():
    found = verdict([100.0] * 4, [900.0] * 9, Rule())
    assert (found.method, found.direction, found.p) == ("report-only", "undecided", None)


def test_one_new_run_must_be_beyond_three_robust_deviations():
    # The median is 100.25, the MAD 1.0: 3 x 1.4826 x 1.0 = 4.45, and 5 % of the median is 5.01.
    assert verdict(HISTORY, [105.0], Rule()).direction == "same"
    assert verdict(HISTORY, [105.3], Rule()).direction == "higher"
    assert verdict(HISTORY, [95.0], Rule()).direction == "lower"
    assert verdict(HISTORY, [104.8], Rule(min_effect=0.01)).direction == "higher"
    assert verdict(HISTORY, [104.6], Rule(min_effect=0.01)).direction == "same"


def test_five_runs_a_side_take_the_rank_test():
    found = verdict(HISTORY, [110.0, 111.0, 109.0, 112.0, 110.5], Rule())
    assert (found.method, found.direction) == ("mann-whitney", "higher")
    assert found.p == pytest.approx(2 / 462)


def test_a_change_that_is_certain_but_small_is_none():
    assert verdict(HISTORY, [103.0, 103.1, 103.2, 103.3, 103.4], Rule()).direction == "same"
    assert verdict(HISTORY, [103.0, 103.1, 103.2, 103.3, 103.4], Rule(min_effect=0.02)).direction == "higher"


def test_a_change_must_also_be_large_enough_in_its_unit():
    rule = Rule(min_absolute=20.0)
    assert verdict(HISTORY, [110.0], rule).direction == "same"
    assert verdict(HISTORY, [121.0], rule).direction == "higher"


def test_stages_are_matched_by_path_and_the_new_and_the_gone_are_told():
    base = stages("plan", "plan > search", "execute", "verify")
    head = stages("plan", "plan > rank", "plan > embed", "execute", "review", "report")
    assert pairs(base, head) == [
        ("plan", "plan", False),
        (None, "plan > rank", False),
        (None, "plan > embed", False),
        ("plan > search", None, False),
        ("execute", "execute", False),
        (None, "review", False),
        (None, "report", False),
        ("verify", None, False),
    ]


def test_one_for_one_at_the_same_place_and_of_a_similar_share_is_a_rename_and_takes_its_sub_stages_along():
    base = stages("plan", "execute", "execute > train", "verify")
    head = stages("plan", "run", "run > train", "verify")
    assert pairs(base, head) == [
        ("plan", "plan", False),
        ("execute", "run", True),
        ("execute > train", "run > train", False),
        ("verify", "verify", False),
    ]


@pytest.mark.parametrize(
    ("base", "head"),
    [
        ([stage("a"), stage("b", 0.4)], [stage("a"), stage("c", 0.1)]),  # another share
        ([stage("a"), stage("b")], [stage("c"), stage("a")]),  # another place
        ([stage("a"), stage("b"), stage("c")], [stage("a"), stage("d"), stage("e")]),  # two for two
        ([stage("a"), stage("b", 0.0)], [stage("a"), stage("c", 0.0)]),  # nothing to go by
        ([stage("a > x")], [stage("b > x")]),  # not under one parent
    ],
)
def test_what_is_not_safe_to_call_a_rename_is_one_gone_and_one_new(base, head):
    assert not any(pair.renamed for pair in match_stages(base, head))


def test_no_stage_is_never_renamed_and_stands_last():
    base = [stage("plan"), stage(NO_STAGE)]
    head = [stage("plan"), stage("other"), stage(NO_STAGE)]
    assert pairs(base, head) == [("plan", "plan", False), (None, "other", False), (NO_STAGE, NO_STAGE, False)]
    assert not any(pair.renamed for pair in match_stages([stage(NO_STAGE)], [stage("new")]))


names = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(" > ".join)


def _tree(paths: set[str]) -> list[StageShape]:
    whole = {" > ".join(path.split(" > ")[:depth]) for path in paths for depth in range(1, len(path.split(" > ")) + 1)}
    return [stage(path) for path in sorted(whole)]


@given(st.sets(names, max_size=8), st.sets(names, max_size=8))
def test_every_stage_of_either_side_is_in_exactly_one_pair_below_its_parent(base_paths, head_paths):
    base, head = _tree(base_paths), _tree(head_paths)
    found = match_stages(base, head)
    assert sorted(pair.base for pair in found if pair.base) == sorted(one.path for one in base)
    assert sorted(pair.head for pair in found if pair.head) == sorted(one.path for one in head)
    seen = set()
    for pair in found:
        assert pair.parent is None or pair.parent in seen
        seen.add(pair.path)
    assert len(seen) == len(found)


def test_a_chain_of_thousands_of_stages_is_no_problem():
    paths = [" > ".join(["s"] * depth) for depth in range(1, 1500)]
    assert len(match_stages(stages(*paths), stages(*paths))) == len(paths)
