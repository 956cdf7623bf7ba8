"""What ties a function to the thread or the process that it is in."""

from __future__ import annotations

import contextvars
import sqlite3
import threading

import pytest

from raddle._effects import effects_of

own = threading.local()
database = sqlite3.connect(":memory:")
setting: contextvars.ContextVar[int] = contextvars.ContextVar("setting")


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
