"""Text that strangers wrote, made harmless for people's eyes: on a terminal and on a page.

Labels and annotations of alerts are written by strangers. ``safe`` keeps them from moving the cursor, changing colours, or hiding and
reordering what a person reads. Escaping HTML is the page's own matter.
"""

from __future__ import annotations

import re

__all__ = ["safe", "visible"]

# C0 and C1 controls and DEL (escapes, bells, line ends), marks that reorder or hide text, lone surrogates. Compiled on first use.
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def safe(text: str) -> str:
    r"""``text`` on one line, with everything that a terminal would act on written as ``\n``, ``\x1b`` or ``\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return re.sub(_UNSAFE, lambda found: _SHORT.get(found[0]) or _escape(ord(found[0])), text)


def visible(text: str) -> str:
    """The same over several lines: line ends and tabs stay."""
    return re.sub(_UNSAFE, lambda found: found[0] if found[0] in "\n\t" else _SHORT.get(found[0]) or _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
