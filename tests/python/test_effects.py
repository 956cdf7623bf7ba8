"""What reading a function's code finds of its effects, and what it leaves alone."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import heapq
import os
import random
import sys
import types
from typing import ClassVar

import pytest

from raddle._effects import effects_of

state = types.ModuleType("effects_state")
state.count = 0  # type: ignore[attr-defined]
state.items = []  # type: ignore[attr-defined]
sys.modules["effects_state"] = state

out: list[int] = []
first: list[int] = []
second: list[int] = []
table: dict[str, list[int]] = {"a": []}


class Counter:
    total = 0

    def __init__(self):
        self.count = 0

    def bump(self):
        self.count += 1

    @property
    def next_number(self):
        self.count += 1
        return self.count

    def __add__(self, other):
        self.count += 1
        return self

    def __len__(self):
        self.count += 1
        return 1

    def __contains__(self, item):
        self.count += 1
        return True

    def __getitem__(self, place):
        self.count += 1
        return place

    def __enter__(self):
        self.count += 1
        return self

    def __exit__(self, *error):
        return None

    def read(self):
        return self.total, str(self.count)

    @classmethod
    def count_all(cls):
        cls.total += 1


class Derived(Counter):
    """Has nothing of its own."""


class Registering:
    made: ClassVar[list[object]] = []

    def __init__(self):
        self.made.append(self)


class Registered(Registering):
    """Registers itself by the class above."""


class BySuper(Registering):
    def __init__(self):
        super().__init__()


@dataclasses.dataclass
class After:
    n: int

    def __post_init__(self):
        out.append(self.n)


class Keeping:
    def __init__(self, kept):
        self.kept = kept

    def keep(self, n):
        self.kept.append(n)


counter = Counter()
counters = [Counter(), Derived()]
by_name = {"a": Counter()}


def getter():
    return out


def with_import(n):
    import effects_state

    effects_state.count += n


def with_import_from(n):
    from effects_state import items

    items.append(n)


def through_type(n):
    type(counter).total += 1


def through_class(n):
    counter.__class__.total += 1


def by_class_method(n):
    Counter.count_all()


def joined(n):
    target = first if n % 2 else second
    target.append(n)


def joined_by_or(n):
    target = (n and first) or second
    target.append(n)


def joined_in_a_loop(n):
    target = []
    for _ in range(n):
        target.append(n)
        target = out


def after_an_error(n):
    target: list[int] = []
    try:
        target = out
        int("x")
    except ValueError:
        target.append(n)


def by_getter(n):
    getter().append(n)


def by_getter_of_a_table(n):
    table.get("a").append(n)  # type: ignore[union-attr]


def by_values_of_a_table(n):
    for one in table.values():
        one.append(n)


def by_elements(n):
    for one in counters:
        one.bump()


def by_numbered_elements(n):
    for _, one in enumerate(counters):
        one.bump()


def by_name_of_element(n):
    by_name["a"].bump()


def by_own_list(n):
    for one in [first, second]:
        one.append(n)


def by_pair(n):
    left, _right = first, n
    left.append(n)


def by_wrapper_of_its_own(n):
    Keeping(out).keep(n)


def by_default(n, known=[]):  # noqa: B006
    known.append(n)


def helper_with_name(n, target=None):
    target.append(n)


def by_keyword(n):
    helper_with_name(n, target=out)


def helper_of_many(*targets):
    targets[0].append(1)


def by_many(n):
    helper_of_many(out, n)


def by_inner_function(n):
    def inner(target):
        target.append(n)

    inner(out)


def by_globals(n):
    globals()["something"] = n


def by_vars(n):
    vars(counter)["count"] = n


def by_in_place_operator(n):
    target = out
    target += [n]


@functools.lru_cache
def cached(n):
    out.append(n)


@functools.singledispatch
def dispatched(n):
    return n


@dispatched.register
def _(n: list):  # type: ignore[type-arg]
    out.append(len(n))


CHANGING = [
    with_import, with_import_from, through_type, through_class, by_class_method, joined,
    joined_by_or, joined_in_a_loop, after_an_error, by_getter, by_getter_of_a_table,
    by_values_of_a_table, by_elements, by_numbered_elements, by_name_of_element, by_own_list,
    by_pair, by_wrapper_of_its_own, by_default, by_keyword, by_many, by_inner_function, by_globals,
    by_vars, by_in_place_operator, cached, dispatched,
    lambda n: cached(n),
    lambda n: list.append(out, n),
    lambda n: heapq.heappush(out, n),
    lambda n: bisect.insort(out, n),
    lambda n: random.shuffle(out),
    lambda n: list(map(out.append, [n])),
    lambda n: list(map(getter().append, [n])),
    lambda n: counter.next_number,
    lambda n: counter + n,
    lambda n: len(counter),
    lambda n: n in counter,
    lambda n: counter[n],
    lambda n: Derived.bump(counter),
    lambda n: Registered(),
    lambda n: BySuper(),
    lambda n: After(n),
    lambda n: setattr(counter, "count", n),
    lambda n: os.environ.update({"RADDLE": "1"}),
    lambda n: os.chdir("."),
    lambda n: [out.append(k) for k in range(n)],
    lambda n: sum(one.bump() or 1 for one in counters),
    lambda n: sorted([1, 2], key=lambda k: out.append(k) or k),
    lambda n: (lambda target: target.append(n))(out),
    functools.partial(list.append, out),
    Registered,
    counters[1].bump,
    out.__iadd__,
]  # fmt: skip


@pytest.mark.parametrize("function", CHANGING)
def test_a_change_outside_is_found(function):
    assert effects_of(function).reason is not None


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (lambda one: one.bump(), Counter()),
        (lambda one: one.inner.bump(), types.SimpleNamespace(inner=Derived())),
        (lambda one: one.next_number, Counter()),
        (lambda one: one + 1, Derived()),
        (lambda ones: [one.bump() for one in ones], [Counter()]),
        (lambda one: list.append(one, 1), []),
        (lambda one: heapq.heapify(one), []),
        (lambda one: type(one).count_all(), Counter()),
        (Counter.bump, Counter()),
        (list.sort, [2, 1]),
        (heapq.heappop, [1]),
        (random.shuffle, [1, 2]),
        (by_in_place_operator, 1),
    ],
)
def test_what_methods_of_an_argument_change_is_found(function, argument):
    assert effects_of(function, (argument,)).reason is not None


def adds_in_place_to_an_argument(values):
    values += [1]


def adds_to_a_number(n):
    n += 1
    return n


def test_an_operator_in_place_counts_for_what_it_changes_only():
    assert effects_of(adds_in_place_to_an_argument, ([],)).reason is not None
    assert effects_of(adds_to_a_number, (1,)).reason is None
    assert effects_of(adds_to_a_number).reason is None


def copies_first(values):
    values = list(values)
    values.append(1)
    values.sort()
    for place in range(len(values)):
        values[place] += 1
    return values


def builds_objects(n):
    one = Derived()
    one.bump()
    one.count = n
    with Counter() as other:
        other.bump()
    return one.count + other.next_number + len(one) + (one + n).count


def collects(n):
    found: dict[int, list[int]] = {}
    for k in range(n):
        found.setdefault(k % 3, []).append(k)
    pairs = [(k, v) for k, v in found.items() if v]
    pairs.sort(key=lambda pair: pair[0])
    while pairs:
        pairs.pop()
    return found


def reads_much(n):
    try:
        total = table["a"][0] if table["a"] else 0
    except (IndexError, KeyError):
        total = 0
    for one in counters:
        total += one.read()[0]
    names = sorted(by_name)
    names.append(str(n))
    return total, names, [name.upper() for name in names], counter.read()


def counts_with_a_closure(n):
    total = 0

    def add(k):
        nonlocal total
        total += k

    for k in range(n):
        add(k)
    return total


def generates(n):
    kept = []
    for k in (i * i for i in range(n)):
        kept.append(k)
    yield from kept


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (copies_first, [3]),
        (builds_objects, 3),
        (collects, 3),
        (reads_much, 3),
        (counts_with_a_closure, 3),
        (generates, 3),
        (Keeping, []),
        (Counter, 1),
        (len, []),
        (sorted, [1]),
        (str.join, "a"),
        (lambda one: [part.strip() for part in one.split(",")], "a,b"),
        (lambda one: {**one, "b": 1}, {"a": 1}),
        (lambda one: dataclasses.replace(one), Keeping([])),
        (lambda one: one.read(), Counter()),
    ],
)
def test_what_changes_only_its_own_is_free(function, argument):
    assert effects_of(function).reason is None
    assert effects_of(function, (argument,)).reason is None


def test_a_function_that_calls_itself_is_read_to_its_end():
    def walk(node):
        for one in node["children"]:
            walk(one)
        return walk(node["parent"]) if node.get("parent") else len(node)

    assert effects_of(walk, ({"children": []},)).reason is None


def test_attributes_of_modules_are_among_what_is_reached():
    def reads(n):
        return state.count + n

    assert "global 'state.count'" in effects_of(reads).reached
