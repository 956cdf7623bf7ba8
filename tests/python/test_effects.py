"""What `raddle.map` reads of a function: what it changes, and what ties it to where it is."""

from __future__ import annotations

import bisect
import contextvars
import functools
import heapq
import operator
import random
import sqlite3
import sys
import threading
from types import ModuleType
from typing import ClassVar

import numpy
import pytest

from raddle._effects import effects_of


class Tally:
    count = 0

    def __init__(self):
        self.n = 0

    def bump(self):
        self.n += 1

    def tally(self):
        type(self).count += 1

    @property
    def next_id(self):
        self.n += 1
        return self.n

    def __add__(self, other):
        self.n += other
        return self

    def __len__(self):
        self.n += 1
        return 3

    def __enter__(self):
        self.n += 1

    def __exit__(self, *error):
        pass


class Registered:
    everyone: ClassVar[list[object]] = []

    def __init__(self):
        Registered.everyone.append(self)


class Inheriting(Registered):
    pass


state = ModuleType("state_of_effects")
state.count, state.items = 0, []  # type: ignore[attr-defined]
state.__file__ = __file__
sys.modules[state.__name__] = state
out: list[object] = []
tally, tallies, by_name = Tally(), [Tally()], {"a": Tally()}
array = numpy.zeros(3)
own = threading.local()
database = sqlite3.connect(":memory:")
setting: contextvars.ContextVar[int] = contextvars.ContextVar("setting")


def the_list():
    return out


def the_tally():
    return tally


@functools.lru_cache
def cached(x):
    out.append(x)


@functools.singledispatch
def dispatched(x):
    return x


@dispatched.register
def _(x: int):
    out.append(x)


def append_to(x, acc=None):
    if acc is None:
        acc = []
    acc.append(x)
    return acc


def imported_inside(x):
    import state_of_effects

    state_of_effects.count += x


def imported_from_inside(x):
    from state_of_effects import items

    items.append(x)


def class_attribute(_):
    tally.tally()


def method_of_an_argument(x):
    x.bump()


def in_place(x):
    x += [1]


def in_place_of_a_global(x):
    alias = out
    alias += [x]


def unbound_method(x):
    list.append(out, x)


def pushed(x):
    heapq.heappush(out, x)


def inserted(x):
    bisect.insort(out, x)


def shuffled(_):
    random.shuffle(out)


def one_of_two_ways(x):
    if x:
        there = out
    else:
        there = []
    there.append(x)


def what_a_function_returns(x):
    the_list().append(x)


def method_of_what_a_function_returns(_):
    the_tally().bump()


def each_of_a_list(_):
    for one in tallies:
        one.bump()


def each_value_of_a_dict(_):
    for _name, one in by_name.items():
        one.bump()


def one_of_a_dict(_):
    by_name["a"].bump()


def the_greatest(_):
    max(tallies, key=id).bump()


def by_a_cache(x):
    cached(x)


def by_a_property(_):
    return tally.next_id


def by_an_operator(x):
    return tally + x


def by_a_length(_):
    return len(tally)


def by_a_context(_):
    with tally:
        pass


def by_an_inherited_constructor(_):
    return Inheriting()


def by_globals(x):
    globals()["another"] = x


def by_vars(x):
    vars(tally)["another"] = x


def by_setattr(x):
    setattr(tally, "another", x)  # noqa: B010


def handed_on(x):
    return list(map(out.append, [x]))


def by_the_module_operator(x):
    operator.setitem(by_name, "b", x)


def by_a_default(x, kept=[]):  # noqa: B006
    kept.append(x)


def by_another_function(x):
    return append_to(x, out)


def copied_into(x):
    numpy.copyto(array, x)


CHANGING = {
    imported_inside: "it sets state_of_effects.count",
    imported_from_inside: "it calls state_of_effects.items.append()",
    class_attribute: "it sets type(tally).count",
    method_of_an_argument: "it has bump() change x, its argument",
    in_place: "it changes x in place, its argument",
    in_place_of_a_global: "it changes out in place",
    unbound_method: "it calls list.append(out)",
    pushed: "it calls heapq.heappush(out)",
    inserted: "it calls bisect.insort(out)",
    shuffled: "random numbers",
    one_of_two_ways: "it calls out.append()",
    what_a_function_returns: "it calls out.append()",
    method_of_what_a_function_returns: "it sets tally.n",
    each_of_a_list: "it sets tallies[...].n",
    each_value_of_a_dict: "it sets by_name",
    one_of_a_dict: "it sets by_name[...].n",
    the_greatest: "it sets tallies[...].n",
    by_a_cache: "it calls out.append()",
    cached: "it calls out.append()",
    dispatched: "it calls out.append()",
    by_a_property: "it sets tally.n",
    by_an_operator: "it sets tally.n",
    by_a_length: "it sets tally.n",
    by_a_context: "it sets tally.n",
    by_an_inherited_constructor: "it calls Registered.everyone.append()",
    Inheriting: "it calls Registered.everyone.append()",
    by_globals: "it stores into globals()",
    by_vars: "it stores into vars(tally)",
    by_setattr: "it calls setattr(tally)",
    handed_on: "it hands out.append on to be called",
    by_the_module_operator: "it calls operator.setitem(by_name)",
    by_a_default: "it calls kept.append()",
    by_another_function: "it has append_to() change out",
    copied_into: "it calls numpy.copyto(array)",
    heapq.heappush: "it is heappush()",
}
ARGUMENTS = {method_of_an_argument: Tally(), in_place: []}


@pytest.mark.parametrize("function", CHANGING, ids=lambda one: one.__name__)
def test_a_change_is_read_from_the_code(function):
    reason = effects_of(function, (ARGUMENTS.get(function, 1),)).reason
    assert reason is not None
    assert CHANGING[function] in reason


def changes_its_own_list(x):
    x = list(x)
    x.append(1)
    return x


def adds_to_a_number(x, text=""):
    x += 1
    text += "x"
    return x, text


def has_a_list_filled(x):
    return append_to(x)


def groups(x):
    found = {}
    for one in x:
        found.setdefault(one, []).append(one)
    return found


def sorts_a_global(_):
    return sorted(out, key=lambda one: one)


def reads_others(_):
    return by_name.get("a"), by_name["a"].n, min(tallies, key=lambda one: one.n)


def sums(x):
    total = 0.0
    for number in range(x):
        total += number * number
    return total


def uses_an_object_of_its_own(_):
    mine = Tally()
    mine.bump()
    return len(mine)


def extends_its_own_list(x):
    rows = [each for each in out if each]
    rows.append(x)
    rows += out
    return rows


def computes_with_arrays(_):
    doubled = array * 2
    doubled[0] = 1
    doubled += 1
    return doubled


def copies_a_dict(x):
    mine = dict(by_name)
    mine["x"] = x
    return mine


def imports_a_library(x):
    import json
    import math

    return json.dumps({"x": math.sin(x)})


UNCHANGING = {
    changes_its_own_list: [1],
    adds_to_a_number: 1,
    has_a_list_filled: 1,
    groups: [1],
    sorts_a_global: 1,
    reads_others: 1,
    sums: 3,
    uses_an_object_of_its_own: 1,
    extends_its_own_list: 1,
    computes_with_arrays: 1,
    copies_a_dict: 1,
    imports_a_library: 1.0,
}


@pytest.mark.parametrize("function", UNCHANGING, ids=lambda one: one.__name__)
def test_what_changes_only_what_is_its_own_is_free(function):
    assert effects_of(function, (UNCHANGING[function],)).reason is None


class Storing:
    def __init__(self):
        self.database = database

    def count(self, _):
        return self.database.execute("select 1")


@pytest.mark.parametrize(
    "function",
    [lambda _: own.x, lambda _: database.execute("select 1"), Storing().count],
    ids=["local", "database", "attribute"],
)
def test_what_belongs_to_a_thread_does_not_go_to_others(function):
    assert "belongs to the thread that made it" in effects_of(function, (1,)).ties["threads"]


def test_the_value_of_a_context_variable_does_not_go_to_a_process():
    def read(_):
        return setting.get(0)

    assert "processes" not in contextvars.Context().run(effects_of, read, (1,)).ties
    context = contextvars.copy_context()
    context.run(setting.set, 3)
    assert "'setting'" in context.run(effects_of, read, (1,)).ties["processes"]
