"""Keeping secrets out of the manifest: values of options that name a secret, and strings shaped like well-known keys."""

import re

MARK = "[redacted]"

_SECRET_NAME = re.compile(r"(?i)key|token|secret|passw|passphrase|pwd|credential|(?:^|[-_.:])auth$")
_HARMLESS_NAME = re.compile(
    r"(?i)tokeni[sz]|tokens(?!.*key)|keyword|keypoint|key[-_]?(file|value|frame)|(public|sort|primary|group|partition|monitor)[-_]?key"
)
_ASSIGNMENT = re.compile(r"^(-{0,2}[\w.:-]+)=(.*)$", re.DOTALL)
_KEY_SHAPES = re.compile(
    r"""(?x)
    sk-[A-Za-z0-9_-]{16,}                      # OpenAI, Anthropic and others
    | hf_[A-Za-z0-9]{16,}                      # Hugging Face
    | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,}
    | glpat-[A-Za-z0-9_-]{16,}                 # GitLab
    | xox[abposr]-[A-Za-z0-9-]{10,}            # Slack
    | (?:AKIA|ASIA)[A-Z0-9]{16}                # AWS
    | AIza[A-Za-z0-9_-]{30,}                   # Google
    | ya29\.[A-Za-z0-9_-]{20,}
    | nvapi-[A-Za-z0-9_-]{16,}                 # NVIDIA
    | r8_[A-Za-z0-9]{20,}                      # Replicate
    | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}   # JSON web token
    | -----BEGIN[ A-Z]*PRIVATE\ KEY-----.*
    """,
    re.DOTALL,
)
_URL_PASSWORD = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@]*):([^\s/@]+)@")
_BEARER = re.compile(r"(?i)\b(bearer|basic|token)\s+[A-Za-z0-9._~+/=-]{8,}")
_HEADER = re.compile(r"(?i)\b((?:x-)?(?:api-key|auth-token|authorization))\s*:\s*\S.*")


def redact(argv: list[str]) -> list[str]:
    """The arguments with every value that looks like a secret replaced.

    A value is hidden when its option (`--api-key VALUE`, `--token=VALUE`, `PASSWORD=VALUE`) names a secret, and wherever a string has the
    shape of a well-known key, a password in a URL, or an authorization header.
    """
    result: list[str] = []
    hide_next = False
    for index, word in enumerate(argv):
        if hide_next and index > 0 and not (word.startswith("--") and len(word) > len("--")):
            result.append(MARK)
            hide_next = False
            continue
        hide_next = index > 0 and word.startswith("-") and "=" not in word and _names_secret(word)
        result.append(redact_text(word))
    return result


def redact_text(text: str) -> str:
    """One string with secrets replaced."""
    match = _ASSIGNMENT.match(text)
    if match and _names_secret(match[1]) and match[2]:
        return f"{match[1]}={MARK}"
    text = _URL_PASSWORD.sub(rf"\1:{MARK}@", text)
    text = _HEADER.sub(rf"\1: {MARK}", text)
    text = _BEARER.sub(rf"\1 {MARK}", text)
    return _KEY_SHAPES.sub(MARK, text)


def _names_secret(name: str) -> bool:
    bare = name.lstrip("-")
    return bool(_SECRET_NAME.search(bare)) and not _HARMLESS_NAME.search(bare)
