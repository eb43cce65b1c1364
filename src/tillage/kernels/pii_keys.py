"""Keys and tokens of services, by the forms that these document, and private key blocks."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator

_PRIVATE = re.compile(  # a block of RFC 7468 or RFC 9580: up to the next dashes, so in linear time
    r"-----BEGIN ((?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?)-----(?:(?!-----).)*-----END \1-----",
    re.DOTALL,
)
_FORMS: dict[str, str] = {
    "KIA": r"AKIA[A-Z2-7]{16}",  # AWS
    "SIA": r"ASIA[A-Z2-7]{16}",
    **{f"gh{c}_": rf"gh{c}_[A-Za-z0-9]{{36,255}}" for c in "oprsu"},  # GitHub
    "github_pat_": r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    "gl": r"gl(?:pat|dt|ptt|rt|cbt|oas|soat|ft|imt|agent|wt)-[A-Za-z0-9_-]{20,64}",  # GitLab
    "xox": r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",  # Slack
    "xapp-": r"xapp-[0-9]-[A-Z0-9]{9,15}-[0-9]{10,16}-[a-f0-9]{32,80}",
    "hooks.slack": r"https://hooks\.slack\.com/services/T[A-Z0-9]{6,14}/B[A-Z0-9]{6,14}/[A-Za-z0-9]{20,32}",
    "AIza": r"AIza[A-Za-z0-9_-]{35}",  # Google
    "GOCSPX-": r"GOCSPX-[A-Za-z0-9_-]{28}",
    "ya29.": r"ya29\.[A-Za-z0-9_-]{20,300}",
    "k_live_": r"[sr]k_live_[A-Za-z0-9]{16,247}",  # Stripe
    "k_test_": r"[sr]k_test_[A-Za-z0-9]{16,247}",
    "whsec_": r"whsec_[A-Za-z0-9+/]{32,64}",
    # OpenAI, Anthropic, OpenRouter and others that write keys alike
    "sk-": r"sk-(?:[A-Za-z0-9]{48}"
    r"|(?:proj|svcacct|admin|or-v1|ant-[a-z]{2,8}[0-9]{2})-[A-Za-z0-9_-]{32,300})",
    "npm_": r"npm_[A-Za-z0-9]{36}",
    "hf_": r"hf_[A-Za-z]{34}",  # Hugging Face
    "pypi-": r"pypi-AgE[A-Za-z0-9_-]{50,400}",
    "SG.": r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",  # SendGrid
    "eyJ": r"eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{16,2000}",  # JWT, RFC 7519
}
_TOKENS = {mark: re.compile(rf"(?<![A-Za-z0-9_-]){form}(?![A-Za-z0-9_])") for mark, form in _FORMS.items()}
# AWS gives its secret keys no form but 40 characters: they are told by the name that they are set to.
_SECRET = re.compile(
    r"aws.?secret.{0,12}?key[\"']?\s{0,3}(?:[:=]|=>)\s{0,3}[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])", re.I
)
_LEAST_CHARACTERS = 3


def keys(text: str) -> Iterator[tuple[int, int]]:
    """Private key blocks, and keys of services; an example's `sk_live_xxxx`, of one character, is not."""
    found: list[tuple[int, int]] = []
    if "-----BEGIN " in text:
        found += [match.span() for match in _PRIVATE.finditer(text)]
    for mark, form in _TOKENS.items():
        if mark in text:
            for match in form.finditer(text):
                varied = len(set(match[0].partition(mark)[2])) >= _LEAST_CHARACTERS
                if varied and (mark != "eyJ" or _jwt(match[0])):
                    found.append(match.span())
    if "ecret" in text or "ECRET" in text:
        found += [
            match.span(1) for match in _SECRET.finditer(text) if len(set(match[1])) >= _LEAST_CHARACTERS
        ]
    done = 0
    for start, end in sorted(found):
        if start >= done:
            yield start, end
            done = end


def _jwt(token: str) -> bool:
    """Whether the header names an algorithm, as RFC 7515 asks for."""
    head = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(header, dict) and isinstance(header.get("alg"), str)
