"""Text from recordings, made harmless.

Names, command lines and messages in a recording can come from anybody. Before any of it is shown, every character that is not a visible
one is replaced: control characters (ANSI escapes begin with one), bidirectional overrides, zero-width and private ones, halves of surrogate
pairs, line breaks. What is left cannot move a cursor, hide text or start a new line; markup is the business of each renderer.
"""

from __future__ import annotations

REPLACEMENT = "�"
MAX_LENGTH = 400

_ASCII = str.maketrans(
    {
        **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
        **dict.fromkeys("▒▓", "+"),
        "░": ".",
        "·": "?",
        "─": "-",
        "│": "|",
        "┬": "+",
        "×": "x",
        "–": "-",
        "—": "-",
        "…": "~",
        "≥": ">",
        "°": " ",
        "�": "?",
        "█": "#",
    }
)


def plain(text: str, limit: int = MAX_LENGTH) -> str:
    """One visible line of at most `limit` characters."""
    visible = "".join(
        char if char.isprintable() else " " if char.isspace() else REPLACEMENT for char in text[: limit + 1]
    )
    return visible if len(visible) <= limit else visible[: limit - 1] + "…"


def for_encoding(text: str, encoding: str | None) -> str:
    """The same text in characters that `encoding` has, as many of them: drawings in ASCII where it must be, other characters as `?`."""
    codec = encoding or "utf-8"
    try:
        text.encode(codec)
    except LookupError:
        codec = "ascii"
    except UnicodeEncodeError:
        pass
    else:
        return text
    drawn = text if _has_blocks(codec) else text.translate(_ASCII)
    return drawn.encode(codec, "replace").decode(codec)


def _has_blocks(codec: str) -> bool:
    try:
        "▁█░·─×–…≥".encode(codec)
    except UnicodeEncodeError:
        return False
    return True
