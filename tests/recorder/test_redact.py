"""Secrets on a command line do not reach the manifest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucost.recorder.redact import MARK, redact, redact_text


@pytest.mark.parametrize(
    ("argv", "kept"),
    [
        (["run", "--api-key", "abc", "--epochs", "3"], ["run", "--api-key", MARK, "--epochs", "3"]),
        (["run", "--api_key=abc"], ["run", f"--api_key={MARK}"]),
        (["run", "--hf-token", "abc"], ["run", "--hf-token", MARK]),
        (["run", "--password", "-weird"], ["run", "--password", MARK]),
        (["run", "--db.secret=x=y"], ["run", f"--db.secret={MARK}"]),
        (["env", "OPENAI_API_KEY=abc", "python", "a.py"], ["env", f"OPENAI_API_KEY={MARK}", "python", "a.py"]),
        (["run", "--token", "--verbose"], ["run", "--token", "--verbose"]),
        (["run", "--my-keys=abc"], ["run", f"--my-keys={MARK}"]),
        (["run", "model.secret=abc"], ["run", f"model.secret={MARK}"]),
    ],
)
def test_values_of_options_that_name_a_secret_are_hidden(argv, kept):
    assert redact(argv) == kept


@pytest.mark.parametrize(
    "text",
    [
        "sk-abcdefghijklmnopqrstuvwx",
        "hf_abcdefghijklmnopqrst",
        "ghp_abcdefghijklmnopqrstuvwxyz0123",
        "AKIAABCDEFGHIJKLMNOP",
        "glpat-abcdefghijklmnopqrst",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijkl",
        "nvapi-abcdefghijklmnopqrstu",
    ],
)
def test_well_known_key_shapes_are_hidden_wherever_they_stand(text):
    assert redact(["python", "-c", f"login('{text}')"])[2] == f"login('{MARK}')"


def test_a_password_in_a_url_and_an_authorization_header_are_hidden():
    assert redact_text("postgres://user:hunter2@db/x") == f"postgres://user:{MARK}@db/x"
    assert "abcdefgh12" not in redact_text("Authorization: Bearer abcdefgh12")
    assert "abcdefgh12" not in redact_text("curl with bearer abcdefgh12 inside")


@pytest.mark.parametrize(
    "word",
    [
        "--max-tokens=100",
        "--max_new_tokens=5",
        "--sort-key=name",
        "--tokenizer=x",
        "--num-key-value-heads=8",
        "--public-key=a",
        "--steps=3",
    ],
)
def test_harmless_options_are_kept(word):
    assert redact(["run", word]) == ["run", word]


def test_the_program_itself_is_never_hidden():
    assert redact(["token", "value"]) == ["token", "value"]


@given(st.lists(st.text()))
def test_the_number_of_arguments_never_changes(argv):
    assert len(redact(argv)) == len(argv)


@given(st.text(min_size=1).filter(lambda text: not text.startswith("--")))
def test_a_secret_given_as_the_next_word_never_survives(secret):
    assert redact(["run", "--api-key", secret]) == ["run", "--api-key", MARK]
