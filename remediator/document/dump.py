"""From plain data to YAML text that YAML 1.1 and 1.2 readers read alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from remediator.document.reader import FLOAT, INT, TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["dump_yaml"]

# What a terminal acts on although YAML holds it for printable: direction marks, zero-width characters, separators.
_UNSAFE = re.compile("[\u0085\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


class _Dumper(yaml.CSafeDumper):
    """Quotes every string that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write shared parts out: nobody expects anchors in output."""
        del data
        return True


def _represent_str(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(TAG + "str", str(text), style="|" if "\n" in text.strip("\n") else None)


def _represent_tuple(dumper: yaml.CSafeDumper, items: Sequence[Any]) -> yaml.SequenceNode:
    return dumper.represent_sequence(TAG + "seq", items)


_Dumper.add_multi_representer(str, _represent_str)
_Dumper.add_representer(str, _represent_str)
_Dumper.add_representer(tuple, _represent_tuple)
_Dumper.add_implicit_resolver(TAG + "int", re.compile(rf"^(?:{INT.pattern})$"), list("-+0123456789"))
_Dumper.add_implicit_resolver(TAG + "float", re.compile(rf"^(?:{FLOAT.pattern})$"), list("-+.0123456789"))


def dump_yaml(data: Any) -> str:
    """Block style, keys in their order, nothing that a terminal would act on; ``read_documents`` gives the same data back.

    ``data`` is made of dicts, lists, tuples, strings, numbers, booleans and None; anything else raises yaml.YAMLError.
    """
    text = _dump(data, allow_unicode=True)
    return _dump(data, allow_unicode=False) if _UNSAFE.search(text) else text


def _dump(data: Any, *, allow_unicode: bool) -> str:
    text: str = yaml.dump(data, Dumper=_Dumper, allow_unicode=allow_unicode, sort_keys=False, default_flow_style=False, width=4096)
    return text
