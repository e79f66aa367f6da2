from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, StrictBool, StrictInt, ValidationError, model_validator

from remediator.document import describe, draft7, fault, problems_of, read_documents, suggest
from remediator.document.explain import where
from remediator.fields import Duration, Size


class Base(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Cat(Base):
    kind: Literal["cat"]
    lives: StrictInt = 9


class Dog(Base):
    kind: Literal["dog"]
    good: StrictBool = True


class Home(Base):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []
    rooms: dict[str, "Room"] = {}
    wait: Duration = Field(default=timedelta(seconds=1), gt=timedelta(0))
    size: Size = 1
    owner: str = Field(default="x", min_length=1, max_length=5)
    since: Annotated[int, Field(ge=1)] | None = None
    tags: tuple[str, ...] = Field(default=("a",), min_length=1)

    @model_validator(mode="after")
    def _consistent(self):
        if self.owner == "both":
            raise fault("cannot be both", key="owner")
        return self


class Room(RootModel[dict[str, StrictInt]]):
    pass


Home.model_rebuild()


def problems(text):
    [document] = read_documents("x.yaml", text)
    with pytest.raises(ValidationError) as caught:
        Home.model_validate(document.data)
    return [str(problem).removeprefix("x.yaml:") for problem in problems_of(document, caught.value, model=Home)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("petz: []", ['1:1: unknown key "petz"; did you mean "pets"?']),
        ("qqq: 1", ['1:1: unknown key "qqq"; known are owner, pets, rooms, since, size, tags, wait']),
        ("pets:\n- {kind: cat, lifes: 3}", ['2:15: pets[0]: unknown key "lifes"; did you mean "lives"?']),
        ("pets:\n- {kind: cat, lives: many}", ['2:15: pets[0].lives: must be a whole number, not "many"']),
        ("pets:\n- {kind: dog, good: 1}", ["2:15: pets[0].good: must be true or false, not the number 1"]),
        ("pets: {}", ["1:1: pets: must be a list, not a mapping"]),
        ("pets: [x]", ['1:8: pets[0]: must be a mapping, not "x"']),
        ("rooms: {kitchen: {size: big}}", ['1:19: rooms.kitchen.size: must be a whole number, not "big"']),
        ("rooms: []", ["1:1: rooms: must be a mapping, not a list"]),
        ("wait: 5", ['1:1: wait: "5" has no unit; write 5s, 5m or 5h']),
        ("wait: true", ["1:1: wait: must be a duration such as 30s, 5m or 1h30m"]),
        ("size: 5", ['1:1: size: "5" has no unit; write 5KiB or 5MiB']),
        ("owner: 5", ["1:1: owner: must be a string, not the number 5"]),
        ("owner:", ["1:1: owner: must be a string, not empty"]),
        ("owner: ''", ["1:1: owner: must not be empty"]),
        ("owner: abcdef", ["1:1: owner: must have at most 5 characters"]),
        ("owner: both", ["1:1: owner: cannot be both"]),
        ("since: 0", ["1:1: since: must be at least 1"]),
        ("tags: []", ["1:1: tags: must not be empty"]),
        ("tags: [1]", ["1:8: tags[0]: must be a string, not the number 1"]),
        ("wait: 5\nownr: x\nsize: 1\n", ['1:1: wait: "5" has', '2:1: unknown key "ownr"', '3:1: size: "1" has']),
    ],
)
def test_each_fault_is_told_once_in_words_where_it_stands(text, expected):
    found = problems(text)
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


def test_a_missing_key_is_told_at_its_parent():
    class Outer(Base):
        inner: Cat

    [document] = read_documents("x.yaml", "inner: {lives: 1}")
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(document.data)
    [problem] = problems_of(document, caught.value, model=Outer)
    assert str(problem) == 'x.yaml:1:1: inner: "kind" is missing'


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("cooldwn", ["cooldown", "attempts"], '; did you mean "cooldown"?'),
        ("COOLDOWN", ["cooldown"], '; did you mean "cooldown"?'),
        ("zzz", ["b", "a"], "; known are a, b"),
        ("zzz", [], ""),
        ("zzz", [f"name{n}" for n in range(20)], ""),
    ],
)
def test_suggestions(name, known, hint):
    assert suggest(name, known) == hint


def test_a_problem_is_one_line_whatever_the_document_holds():
    assert problems('"a\\nb\\e[1m": 1') == ['1:1: unknown key "a\\nb\\x1b[1m"; known are owner, pets, rooms, since, size, tags, wait']
    [document] = read_documents("x.yaml", 'a: "\\u202e\\n"')
    assert str(document.problem(("a",), document.data["a"])) == "x.yaml:1:1: a: \\u202e\\n"


def test_words():
    assert where(("ladder", 0, "steps", 1, "restart")) == "ladder[0].steps[1].restart"
    assert describe("x" * 100) == '"' + "x" * 60 + '..."'
    assert [describe(value) for value in (None, True, 5, 1.5, [], {}, b"")] == [
        "empty", "true", "the number 5", "the number 1.5", "a list", "a mapping", "a bytes",
    ]  # fmt: skip


def test_schemas_are_draft_7_with_defaults_as_people_write_them():
    schema = draft7(Home, title="home")
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "$defs" not in str(schema)
    assert schema["properties"]["wait"]["default"] == "1s"
    assert schema["properties"]["size"]["default"] == "1B"
    assert schema["properties"]["since"] == {"minimum": 1, "type": "integer"}
