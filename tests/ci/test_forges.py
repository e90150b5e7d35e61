"""Every forge keeps the contract, and a job is recognized by its environment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_builders import attachment_of, gate
from gpucost.ci import FORGES, detect, forge
from gpucost.ci.comments import Marker, safe_key
from gpucost.ci.contract import Options
from gpucost.errors import UsageError


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "none"),
        ({"GITHUB_ACTIONS": "true"}, "github"),
        ({"GITHUB_ACTIONS": "false", "GITLAB_CI": "true"}, "gitlab"),
        ({"BUILDKITE": "true"}, "buildkite"),
        ({"CI": "true"}, "none"),
    ],
)
def test_a_job_is_recognized_by_its_environment(environ, name):
    assert detect(environ) == name


@pytest.mark.parametrize("name", FORGES)
def test_every_forge_takes_an_empty_environment_without_failing(report, name):
    one = forge(name)
    said = []
    steps = one.attach(attachment_of(report, [gate()]), Options(), {}, said.append)
    assert steps
    assert not any(step.done for step in steps if step.what != "annotations")
    one.failed("no run", Options(annotations=False), {}, said.append)
    assert one.number({}) is None


def test_an_unknown_forge_is_named_with_those_that_are_known():
    with pytest.raises(UsageError, match="sourceforge") as caught:
        forge("sourceforge")
    assert "gitlab" in caught.value.hint


@given(st.text(max_size=120))
def test_no_key_can_end_the_marker_or_look_like_another(key):
    line = Marker(key, (12, 1)).line
    inside = line.removeprefix("<!-- ").removesuffix(" -->")
    assert "--" not in inside
    assert ">" not in inside
    assert line.isascii()
    assert "\n" not in line
    assert len(line) < 120


@given(st.text(max_size=80), st.text(max_size=80))
def test_keys_that_differ_stay_different(one, other):
    assert (safe_key(one) == safe_key(other)) == (one == other)


@given(st.tuples(st.integers(0, 10**12), st.integers(1, 99)), st.tuples(st.integers(0, 10**12), st.integers(1, 99)))
def test_of_two_runs_the_later_one_is_newer(mine, theirs):
    body = Marker("job", theirs).line + "\ntext"
    assert Marker("job", mine).found_in(body)
    assert Marker("job", mine).newer_in(body) == (theirs > mine)


@pytest.mark.parametrize("tail", ["", "run=", "run=x -->", "run=1..2 -->", "run=" + "9" * 500 + " -->", "run=1.2"])
def test_a_broken_marker_is_older_than_anything(tail):
    marker = Marker("job", (1, 1))
    marker.newer_in(f"{marker.start}{tail}\ntext")
