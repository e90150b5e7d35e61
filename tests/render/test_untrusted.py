"""Nothing that was recorded acts on whatever shows it: no escape, no markup, no mention, no new line."""

import io
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gpucost.analyzers.model import NO_STAGE
from gpucost.recording import Problem
from gpucost.render import renderer
from gpucost.render.markdown import code, prose
from gpucost.render.safe import for_encoding, plain
from report_factory import Scenario, a_gpu, report_of

S = 1_000_000_000
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])

NASTY = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\u202egnp.exe",
    "a\nb\r\nc",
    "a | b",
    "[red]x[/red]",
    "[link](javascript:alert(1))",
    "![x](http://e.x/p.png)",
    "<script>alert(1)</script>",
    "<!-- -->",
    "`code` ``more`` ```",
    "@everyone #1 GH-1 user@host",
    "https://evil.example www.evil.example",
    "**bold** _it_ ~~no~~",
    "&lt;b&gt; &amp; &#64;x",
    "\\`\\|\\",
    "\ud800 half",
    ":smile:",
    "$x$",
    "\x00\x08\x7f\x9b31m",
    "",
    " ",
    "x" * 5000,
    "日本語テキスト",
]

texts = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=60), st.lists(st.sampled_from(NASTY), min_size=2, max_size=3).map("".join)
)


def hostile(text: str):
    """A report with `text` wherever a recording can put its own."""
    gpu = a_gpu(name=text, host=text, mig_profile=text)
    stored = text.encode("utf-8", "replace").decode()  # a table cannot hold half of a surrogate pair, a manifest can
    stage = stored or "s"
    scenario = Scenario(
        [gpu],
        {(gpu.uuid, stage, "busy"): 60 * S, (gpu.uuid, NO_STAGE, "idle"): 40 * S},
        spans={stage: [(0, 60 * S)]},
        manifest={
            "name": text,
            "command": ["sh", "-c", text],
            "labels": {text: text},
            "hosts": {},
            "driver": {"driver": text},
        },
        recording={"problems": [Problem(text, text, 2)]},
        events=[(stored, stored, stored, stored, S)],
        notes=[text],
    )
    return report_of(scenario, price="2")


def printed(report, output: str) -> str:
    file = io.StringIO()
    renderer(output)(report, file)
    return file.getvalue()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts)
def test_the_terminal_output_holds_visible_characters_and_line_breaks_only(text):
    output = printed(hostile(text), "terminal")
    assert all(char.isprintable() or char == "\n" for char in output)
    output.encode("utf-8")


@settings(max_examples=40, deadline=None)
@given(texts)
def test_json_is_ascii_and_gives_the_text_back_as_it_was(text):
    output = printed(hostile(text), "json")
    assert output.isascii()
    assert all(char.isprintable() or char == "\n" for char in output)
    assert json.loads(output)["run"]["command"][2] == text


def structure(markdown: str) -> list[str]:
    """The kinds of blocks and inline elements of a document, without its words."""
    kinds = []
    for token in MARKDOWN.parse(markdown):
        kinds.append(token.type)
        kinds += sorted(
            {child.type for child in token.children or [] if child.type not in ("text", "code_inline", "text_special")}
        )
    return kinds


ALLOWED_INLINE = {"strong_open", "strong_close", "em_open", "em_close"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts)
def test_no_text_changes_the_structure_of_the_markdown(text):
    with_text, without = printed(hostile(text), "markdown"), printed(hostile("word"), "markdown")
    # A name of nothing is left out, label and all.
    if text.strip():
        assert structure(with_text) == structure(without)
    inline = {child.type for token in MARKDOWN.parse(with_text) for child in token.children or []}
    assert inline <= ALLOWED_INLINE | {"text", "code_inline", "text_special"}


@settings(max_examples=40, deadline=None)
@given(texts)
def test_nothing_in_the_markdown_can_mention_or_link(text):
    outside = []
    for token in MARKDOWN.parse(printed(hostile(text), "markdown")):
        outside += [child.content for child in token.children or [] if child.type in ("text", "text_special")]
    joined = "".join(outside)
    assert not re.search(r"(?<!\w)@\w|#\d|://|www\.|GH-\d", joined)


@given(texts)
def test_a_code_span_is_one_code_span_with_the_text_in_it(text):
    (token,) = MARKDOWN.parseInline(f"x {code(text)}")
    _before, *rest = token.children
    assert [child.type for child in rest] == ["code_inline"]
    assert rest[0].content == re.sub(r"^ (.*\S.*) $", r"\1", plain(text).strip() or "-")


@given(texts)
def test_prose_reads_as_it_was_written(text):
    (token,) = MARKDOWN.parseInline(f"x {prose(text)}")
    shown = "".join(child.content for child in token.children)
    assert {child.type for child in token.children} <= {"text", "text_special"}
    assert shown.replace("\u200b", "").rstrip() == f"x {plain(text, 600)}".rstrip()


def test_rich_markup_and_emoji_are_printed_as_they_are():
    output = printed(hostile("[red]x[/red] :smile:"), "terminal")
    assert "[red]x[/red] :smile:" in output


@pytest.mark.parametrize("text", NASTY)
def test_plain_text_is_one_visible_line_of_bounded_length(text):
    found = plain(text)
    assert found.isprintable()
    assert len(found) <= 400


@given(texts, st.sampled_from(["ascii", "latin-1", "cp437", "utf-8", None, "no-such-codec"]))
def test_text_fits_the_encoding_it_is_written_in(text, encoding):
    known = encoding if encoding not in (None, "no-such-codec") else "utf-8"
    for_encoding(plain(text), encoding).encode(known)
