"""Settings against signatures: what is misspelt, missing or of another type is refused by its full name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import pytest
from omegaconf import OmegaConf

from perank.app.settings import as_dict, check_arguments, check_config, check_keys, check_type, instantiate
from perank.errors import BadInput
from perank.records import Ranker


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 1


class Outer:
    """With every kind of annotation that is looked at, and some that are not."""

    def __init__(
        self,
        name: str,
        *,
        rate: float = 0.1,
        count: int | None = None,
        old: Optional[int] = None,  # noqa: UP045 - other people's annotations look like this
        path: str | Path | None = None,
        words: Sequence[str] = (),
        pair: tuple[float, float] = (0.0, 1.0),
        inner: Inner | None = None,
        ranker: Ranker | None = None,
        parts: Mapping[str, Inner | None] | None = None,
        table: dict[str, int] | None = None,
        free: Any = None,
    ) -> None:
        if name == "refused":
            raise BadInput("the name is refused", remedy="choose another", id=name)
        if name == "out of range":
            raise ValueError("the name is out of range")
        if name == "bug":
            raise AttributeError("a bug")
        self.settings = dict(locals())


def configured(**settings: Any) -> Any:
    node = {"_target_": f"{__name__}.Outer", "name": "x", **settings}
    return OmegaConf.create({"group": {"one": {k: v for k, v in node.items() if v is not ...}}}).group.one


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rate": 1, "count": 3, "old": None, "path": "a/b", "words": ["a"], "pair": [1, 2.5], "free": {"x": [1]}},
        {"inner": {"_target_": f"{__name__}.Inner", "size": 3}},
        {"table": {"a": 1}, "free": {"inner": {"size": 3}}},
    ],
    ids=["few", "many", "nested", "dictionaries"],
)
def test_what_a_constructor_takes_is_made(settings: dict[str, Any]) -> None:
    found = instantiate(configured(**settings))
    assert isinstance(found, Outer)
    for key, value in settings.items():
        if key != "inner":
            assert found.settings[key] == value
            assert type(found.settings[key]) in (int, float, str, list, dict, type(None))  # no OmegaConf inside


@pytest.mark.parametrize(
    ("settings", "id", "said"),
    [
        ({"rat": 1}, "group.one.rat", "rate"),
        ({"name": ...}, "group.one.name", "missing"),
        ({"name": "???"}, "group.one.name", "no value"),
        ({"name": 3}, "group.one.name", "expected str, found 3"),
        ({"rate": "much"}, "group.one.rate", "expected float"),
        ({"rate": True}, "group.one.rate", "expected float"),
        ({"count": 1.5}, "group.one.count", "expected int | None"),
        ({"count": True}, "group.one.count", "expected int"),
        ({"old": "x"}, "group.one.old", "Optional"),
        ({"path": 3}, "group.one.path", "found 3"),
        ({"words": "abc"}, "group.one.words", "Sequence"),
        ({"words": ["a", 1]}, "group.one.words", "Sequence"),
        ({"pair": [1.0]}, "group.one.pair", "tuple"),
        ({"pair": [1.0, "x"]}, "group.one.pair", "tuple"),
        ({"inner": {"_target_": f"{__name__}.Inner", "sise": 3}}, "group.one.inner.sise", "size"),
        ({"inner": {"size": 3}}, "group.one.inner", "with a _target_, found {'size': 3}"),
        ({"inner": {}}, "group.one.inner", "with a _target_"),
        ({"ranker": {"size": 3}}, "group.one.ranker", "with a _target_"),
        ({"parts": {"a": None, "b": {"size": 3}}}, "group.one.parts.b", "with a _target_"),
        ({"parts": {"a": 3}}, "group.one.parts.a", "Inner"),
        ({"count": {"size": 3}}, "group.one.count", "expected int"),
        ({"inner": {"_target_": f"{__name__}.Inner", "size": "x"}}, "group.one.inner.size", "expected int"),
        ({"_target_": "perank.none.Nothing"}, "group.one", "can't be imported"),
        ({"_target_": "nothing"}, "group.one", "can't be imported"),
        ({"name": "out of range"}, "group.one", "out of range"),
        ({"name": "refused"}, "refused", "refused"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_it_does_not_take_is_refused_by_its_full_name(settings: dict[str, Any], id: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        instantiate(configured(**settings))
    assert caught.value.id == id
    assert said in str(caught.value)


def test_a_bug_inside_a_constructor_stays_one() -> None:
    with pytest.raises(Exception, match="a bug") as caught:
        instantiate(configured(name="bug"))
    assert not isinstance(caught.value, BadInput)


def test_given_arguments_are_neither_missing_nor_allowed_twice() -> None:
    check_arguments(Outer, {}, "group", given=["name"])
    with pytest.raises(BadInput, match="no such setting"):
        check_arguments(Outer, {"name": "x"}, "group", given=["name"])


def test_a_function_that_takes_anything_takes_anything() -> None:
    def anything(**settings: Any) -> None: ...

    check_arguments(anything, {"a": 1, "b": "x"}, "group")


def test_close_names_are_offered_before_all_names() -> None:
    with pytest.raises(BadInput, match=r"choose among batch_size\)"):
        check_keys(["bach_size"], ["batch_size", "epochs"], "data")
    with pytest.raises(BadInput, match="choose among a, b"):
        check_keys(["xyz"], ["b", "a"], "")


def test_single_values_have_types_too() -> None:
    check_type(None, int | None, "ckpt_path")
    with pytest.raises(BadInput, match="expected bool, found 'maybe'"):
        check_type("maybe", bool, "evaluate")


@dataclass(kw_only=True)
class Top:
    """The schema of a small command."""

    seed: int
    inner: Inner
    group: Mapping[str, Any]
    names: list[str] = field(default_factory=list)
    free: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise BadInput("the seed is below 0", remedy="use another", id="seed")


GOOD = {"seed": 1, "inner": {"size": 3}, "group": {"x": "???", "y": "${nowhere}"}, "names": ["a"]}


def test_a_config_of_its_schema_is_taken_and_groups_stay_for_their_own_schema() -> None:
    check_config(Top, OmegaConf.create(GOOD))
    check_config(Top, OmegaConf.create({key: GOOD[key] for key in ("seed", "inner", "group")} | {"free": None}))


@pytest.mark.parametrize(
    ("changed", "id", "said"),
    [
        ({"seed": "one"}, "seed", "expected int, found 'one'"),
        ({"seed": -1}, "seed", "below 0"),
        ({"seed": "???"}, "seed", "no value"),
        ({"sede": 1}, "sede", "choose among seed"),
        ({"inner": {"sise": 3}}, "inner.sise", "size"),
        ({"inner": {"size": "x"}}, "inner.size", "expected int"),
        ({"inner": None}, "inner", "expected a group of settings, found None"),
        ({"group": None}, "group", "expected a group of settings"),
        ({"group": [1]}, "group", "expected a group of settings"),
        ({"names": "a"}, "names", "list"),
        ({"names": ["a", 1]}, "names", "list"),
        ({"free": 3}, "free", "found 3"),
    ],
    ids=str,
)
def test_a_config_of_other_types_is_refused_by_its_key(changed: dict[str, Any], id: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_config(Top, OmegaConf.create(GOOD | changed))
    assert caught.value.id == id
    assert said in str(caught.value)


def test_a_config_without_a_setting_is_refused_by_the_missing_key() -> None:
    with pytest.raises(BadInput, match="'seed': a setting is missing"):
        check_config(Top, OmegaConf.create({key: value for key, value in GOOD.items() if key != "seed"}))


def test_arguments_of_a_partial_may_come_later_and_are_known_all_the_same() -> None:
    made = instantiate(configured(_partial_=True, name=..., rate=0.5))
    assert made("x").settings["rate"] == 0.5
    with pytest.raises(BadInput, match="no such setting"):
        instantiate(configured(_partial_=True, name=..., rat=1))


def test_groups_become_plain_dictionaries_and_nothing_else_does() -> None:
    config = OmegaConf.create({"a": {"x": "${b}", "y": [1]}, "b": 3})
    assert as_dict(config.a) == {"x": 3, "y": [1]}
    with pytest.raises(BadInput, match="expected a group"):
        as_dict(config.a.y)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "x"}, "with a _target_"),
        ({"_target_": None}, "None can't be imported"),
        ({"_target_": "perank.errors"}, "not a callable"),
        ({"_target_": "perank.errors.TERMINATED"}, "not a callable"),
        ({"_target_": "builtins.dict"}, "no signature"),
    ],
    ids=str,
)
def test_a_group_without_a_usable_target_is_refused_by_its_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        instantiate(OmegaConf.create({"encoder": settings}).encoder)
    assert refused.value.id == "encoder"


def test_a_single_value_is_no_group_and_none_is_nothing() -> None:
    with pytest.raises(BadInput, match="with a _target_"):
        instantiate(3)
    assert instantiate(None) is None


def test_an_empty_text_is_refused_by_its_key() -> None:
    """As of an unset variable: `folder=$STORE`."""

    @dataclass
    class Schema:
        folder: str | None

    with pytest.raises(BadInput, match="id 'folder': an empty text"):
        check_config(Schema, OmegaConf.create({"folder": ""}))
