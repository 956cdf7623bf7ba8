"""Columns of strings: how they are sent, and that they arrive as they were."""

from __future__ import annotations

import frame_tasks as tasks
import numpy
import pandas
import pytest

import raddle
from raddle import _native
from raddle._frame_texts import Repeated, Texts, opened, packed

ROWS = 10_000


def objects(values):
    array = numpy.empty(len(values), dtype=object)
    array[:] = values
    return array


def fresh(number):
    """Return a string that is an object of its own."""
    return f"text {number} \u00e4"


def one_of(values):
    return [values[number % len(values)] for number in range(ROWS)]


DIFFERENT = [fresh(number) for number in range(ROWS)]
#: What each column is sent as: by the name of a type, or None for as it is.
COLUMNS = {
    "different": (DIFFERENT, Texts),
    "empty": ([""] * ROWS, Repeated),
    "same objects": (one_of(["a", "bb", "\U0001f600"]), Repeated),
    "equal objects": ([fresh(number % 3) for number in range(ROWS)], Repeated),
    "many objects": (one_of(DIFFERENT[:2000]), Repeated),
    "missing": (one_of(["a", None, numpy.nan]), Repeated),
    "missing, equal objects": (
        [None if number % 5 == 0 else fresh(number % 3) for number in range(ROWS)],
        Repeated,
    ),
    "a surrogate": (one_of(["a", "\ud800"]), Repeated),
    "numbers": (one_of(["a", 1.5]), Repeated),
    "different, one missing": ([*DIFFERENT[:-1], None], None),
    "an int": (one_of(["a", 1]), None),
    "lists": (one_of([[], "a"]), None),
    "a string of numpy": (one_of(["a", numpy.str_("b")]), None),
    "half": ([*one_of(["a"])[: ROWS // 2], *DIFFERENT[: ROWS // 2]], Texts),
}


@pytest.fixture(scope="module")
def pool():
    with raddle.ProcessPoolExecutor(2) as executor:
        yield executor


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_sent_in_the_least_way_that_keeps_it(name):
    values, kind = COLUMNS[name]
    frame = pandas.DataFrame({"column": objects(values)})
    part = packed(frame)
    if kind is None:
        assert part is frame
        return
    (column,) = part.columns.values()
    assert type(column) is kind
    array = numpy.empty(len(values), dtype=object)
    column.fill(array)
    same(array, values)


def same(found, values):
    assert len(found) == len(values)
    assert list(map(type, found)) == list(map(type, values))
    # A NaN is equal to no other, and is told by its text.
    assert list(map(repr, found)) == list(map(repr, values))


def test_columns_of_all_kinds_come_back_as_they_were(pool):
    frame = pandas.DataFrame({name: objects(values) for name, (values, _) in COLUMNS.items()})
    for fn in (tasks.identity, tasks.reversed_rows):
        result = raddle.map_frame(fn, frame, chunks=1, executor=pool)
        expected = fn(frame)
        pandas.testing.assert_frame_equal(result, expected)
        for name in frame:
            same(result[name], expected[name])


def test_a_column_that_is_there_twice_is_written_in_one_place(pool):
    frame = pandas.DataFrame({"s": objects(DIFFERENT)})
    result = raddle.map_frame(tasks.doubled_column, frame, chunks=1, executor=pool)
    result.iloc[0, 0] = "written"
    assert result.iloc[0].tolist() == ["written", DIFFERENT[0]]
    assert frame.iloc[0, 0] == DIFFERENT[0]


def test_a_worker_that_writes_into_a_column_sends_what_it_wrote(pool):
    for values in (DIFFERENT, one_of(["a", "b"])):
        frame = pandas.DataFrame({"s": objects(values)})
        with pandas.option_context("mode.copy_on_write", True):
            part, columns = opened(packed(frame))
            part.iloc[0, 0] = "written"
            assert part["s"].tolist() == ["written", *values[1:]]
            assert columns[0][0] == values[0]
        result = raddle.map_frame(tasks.write_texts, frame, chunks=1, executor=pool)
        assert result["s"].tolist() == ["changed", *values[1:]]


@pytest.mark.parametrize("fn", [tasks.identity, tasks.doubled_column, tasks.write_where_first])
def test_a_column_of_all_parts_is_that_of_the_sequential_result(pool, fn):
    frame = pandas.DataFrame(
        {
            "s": objects(DIFFERENT),
            "f": numpy.arange(float(ROWS)),
            "few": objects(one_of(["a", None])),
            "t": objects([f"plain {number}" for number in range(ROWS)]),
        }
    )
    frame.attrs["name"] = "value"
    parts = [frame.iloc[start : start + ROWS // 4] for start in range(0, ROWS, ROWS // 4)]
    expected = pandas.concat([fn(part.copy()) for part in parts])
    result = raddle.map_frame(fn, frame, chunks=4, executor=pool)
    pandas.testing.assert_frame_equal(result, expected)
    assert result.attrs == expected.attrs
    result.iloc[0, 0] = "written"
    assert result.iloc[0].tolist() == ["written", *expected.iloc[0].tolist()[1:]]
    assert frame.iloc[0, 0] == DIFFERENT[0]


def test_strings_that_a_worker_keeps_stay_as_they_were():
    rounds = 6
    columns = ([f"{n} of {number}" for number in range(ROWS)] for n in range(rounds))
    with raddle.ProcessPoolExecutor(1) as one:
        for column in columns:
            frame = pandas.DataFrame({"s": objects(column)})
            results = raddle.map_frame(tasks.keep_some_texts, frame, chunks=2, executor=one)
            assert results.tolist() == [True, True]


def test_a_part_is_opened_anew_each_time():
    frame = pandas.DataFrame({"s": objects(DIFFERENT), "f": numpy.arange(float(ROWS))})
    part = packed(frame)
    for _attempt in range(2):
        pandas.testing.assert_frame_equal(opened(part)[0], frame)


def test_damaged_columns_are_refused():
    ends, data = _native.pack_texts(objects(DIFFERENT))
    with pytest.raises(ValueError, match="within"):
        _native.unpack_texts(ends, memoryview(data)[:-1], objects(DIFFERENT))
    with pytest.raises(ValueError, match="within"):
        _native.unpack_texts(ends, data, objects(DIFFERENT[:-1]))
    with pytest.raises(IndexError):
        Repeated(ends, ["a"]).fill(objects(DIFFERENT))
