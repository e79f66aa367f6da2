"""Nouns are read by several threads, from the first moment on."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from remediator import model

RACE = """
from __future__ import annotations
import threading
import sys
from remediator.model import Noun, from_json

read = []

def ask():
    read.append(from_json(b'{"inner": {"value": 1}}', Outer).inner.value)

def slowly():
    # The first thread is finding out what Outer is made of. Another one asks meanwhile, and has all the time to be wrong.
    if threading.current_thread() is first and not others:
        others.append(threading.Thread(target=ask))
        others[0].start()
        others[0].join(0.5)
    return int

class Inner(Noun, frozen=True):
    value: slowly()

class Outer(Noun, frozen=True):
    inner: Inner
    more: str = ""

others = []
first = threading.Thread(target=ask)
first.start()
first.join()
others[0].join()
print(read)
"""


def test_a_thread_that_asks_while_another_one_finds_out_what_a_noun_is_made_of_waits():
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 1]\n", "")


def test_all_nouns_here_are_known_before_there_are_threads():
    nouns = {kind for kind in vars(model).values() if isinstance(kind, type) and issubclass(kind, model.Noun)}
    assert len(nouns) > 15
    assert nouns - {model.Noun} <= set(model._decoders)


def test_bytes_and_plain_data_are_the_same_noun():
    plain = {"kind": "Node", "name": "node-1", "namespace": "", "uid": "u"}
    assert model.from_json(msgspec.json.encode(plain), model.Target) == model.from_json(plain, model.Target)
    assert model.from_json(msgspec.Raw(msgspec.json.encode(plain)), model.Target).name == "node-1"
    assert model.from_json([plain], list[model.Target]) == [model.from_json(plain, model.Target)]
