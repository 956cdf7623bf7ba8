"""Any history of calls on a future ends as it does on the standard library's future.

Hypothesis makes the histories; every call's value, or the type and text of what it raises, and
the state that it leaves have to be the same on both.
"""

import concurrent.futures
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CALLS = {
    "set_result": lambda f, seen: f.set_result(len(seen)),
    "set_exception": lambda f, seen: f.set_exception(OSError(len(seen))),
    "set_no_exception": lambda f, seen: f.set_exception(None),
    "start": lambda f, seen: f.set_running_or_notify_cancel(),
    "cancel": lambda f, seen: f.cancel(),
    "add_callback": lambda f, seen: f.add_done_callback(
        lambda done, place=len(seen): seen.append(("callback", place, done is f, done._state))
    ),
    "result": lambda f, seen: f.result(timeout=0),
    "exception": lambda f, seen: repr(f.exception(timeout=0)),
    "states": lambda f, seen: (f.done(), f.running(), f.cancelled()),
    "repr": lambda f, seen: repr(f),
    "wait": lambda f, seen: len(concurrent.futures.wait([f], timeout=0).done),
}


def without_numbers(text):
    return re.sub(r"0x[0-9a-f]+|Future \d+", "0x", text)


def history(future, calls):
    """Everything that can be seen of *future* while *calls* are made on it."""
    seen = []
    for call in calls:
        try:
            value = CALLS[call](future, seen)
        except Exception as error:
            value = (type(error).__name__, str(error))
        seen.append((call, without_numbers(repr(value)), future._state))
    return seen


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls=st.lists(st.sampled_from(sorted(CALLS)), max_size=12))
def test_every_history_ends_as_in_the_standard_library(library, calls):
    assert history(library.Future(), calls) == history(concurrent.futures.Future(), calls)
