"""Generated frames: the result is that of the same, one part after the other, here."""

from __future__ import annotations

import datetime

import frame_tasks as tasks
import numpy
import pandas
import polars
import polars.testing
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import raddle

SETTINGS = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def pool():
    with raddle.ProcessPoolExecutor(2) as executor:
        yield executor


TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


LONG = datetime.timedelta(days=10_000)


def columns(rows):
    def lists(values):
        return st.lists(values, min_size=rows, max_size=rows)

    numbers = st.integers(-(2**40), 2**40)
    times = st.datetimes(
        min_value=pandas.Timestamp(1990, 1, 1), max_value=pandas.Timestamp(2060, 1, 1)
    )
    return st.fixed_dictionaries(
        {
            "i": lists(numbers).map(lambda v: pandas.Series(v, dtype="int64")),
            "f": lists(st.floats()).map(lambda v: pandas.Series(v, dtype="float64")),
            "s": lists(TEXTS).map(lambda v: pandas.Series(v, dtype=object)),
            "k": lists(st.sampled_from([0.0, 1.5, numpy.nan])).map(
                lambda v: pandas.Series(v, dtype="float64")
            ),
            "u": lists(st.sampled_from(["x", "z", None])).map(
                lambda v: pandas.Series(pandas.Categorical(v, categories=["z", "y", "x"]))
            ),
        },
        optional={
            "b": lists(st.booleans()).map(lambda v: pandas.Series(v, dtype=bool)),
            "g": lists(st.floats(width=32)).map(lambda v: pandas.Series(v, dtype="float32")),
            "n": lists(st.none() | numbers).map(lambda v: pandas.Series(v, dtype="Int64")),
            "a": lists(TEXTS).map(lambda v: pandas.Series(v, dtype="string[pyarrow]")),
            "c": lists(st.sampled_from("xyz")).map(
                lambda v: pandas.Series(pandas.Categorical(v, categories=list("xyz"), ordered=True))
            ),
            "t": lists(times).map(
                lambda v: pandas.Series(v, dtype="datetime64[ns]").dt.tz_localize("UTC")
            ),
            "z": lists(times).map(
                lambda v: (
                    pandas.Series(v, dtype="datetime64[ns]")
                    .dt.tz_localize("UTC")
                    .dt.tz_convert("Europe/Zurich")
                )
            ),
            "d": lists(st.timedeltas(min_value=-LONG, max_value=LONG)).map(
                lambda v: pandas.Series(v, dtype="timedelta64[ns]")
            ),
            "m": lists(TEXTS | numbers | st.none()).map(lambda v: pandas.Series(v, dtype=object)),
        },
    )


def indexes(rows):
    labels = st.lists(st.integers(0, 3), min_size=rows, max_size=rows)
    pairs = st.lists(st.tuples(st.integers(0, 2), TEXTS), min_size=rows, max_size=rows)
    return st.one_of(
        st.just(pandas.RangeIndex(rows)),
        st.just(pandas.date_range("2020-01-01", periods=rows, freq="h", tz="UTC", name="when")),
        labels.map(lambda v: pandas.Index(v, name="label", dtype="int64")),
        pairs.map(
            lambda v: (
                pandas.MultiIndex.from_tuples(v or [], names=["one", "two"])
                if v
                else pandas.MultiIndex.from_arrays([[], []], names=["one", "two"])
            )
        ),
    )


@st.composite
def frames(draw, min_rows=0):
    rows = draw(st.integers(min_rows, 12))
    frame = pandas.DataFrame(draw(columns(rows)))
    frame.index = draw(indexes(rows))
    return frame


def same(result, expected):
    """Assert that two frames or series are the same: values, index, types and flags."""
    assert type(result) is type(expected)
    if isinstance(expected, pandas.DataFrame):
        pandas.testing.assert_frame_equal(result, expected, check_freq=True, check_exact=True)
    else:
        pandas.testing.assert_series_equal(result, expected, check_freq=True, check_exact=True)
    assert result.flags == expected.flags


PANDAS_FUNCTIONS = [tasks.with_double, tasks.identity, tasks.first_column, tasks.even_rows]


@SETTINGS
@given(frame=frames(), chunks=st.integers(1, 5), fn=st.sampled_from(PANDAS_FUNCTIONS))
def test_a_pandas_frame_is_mapped_as_its_parts_are_one_by_one(pool, frame, chunks, fn):
    expected = [fn(frame.iloc[part]) for part in tasks.bounds(len(frame), chunks)]
    expected = expected[0] if len(expected) == 1 else pandas.concat(expected)
    same(raddle.map_frame(fn, frame, chunks=chunks, executor=pool), expected)


@SETTINGS
@given(frame=frames(min_rows=1), fn=st.sampled_from(PANDAS_FUNCTIONS))
def test_a_frame_with_repeated_rows_is_mapped_as_its_parts_are(pool, frame, fn):
    # So many that its columns of strings are sent in one piece.
    frame = pandas.concat([frame] * 250)
    expected = pandas.concat([fn(frame.iloc[part]) for part in tasks.bounds(len(frame), 2)])
    same(raddle.map_frame(fn, frame, chunks=2, executor=pool), expected)


@SETTINGS
@given(
    frame=frames(),
    by=st.sampled_from(["i", "s", "k", "u", ["k", "s"], ["u", "i"]]),
    fn=st.sampled_from(PANDAS_FUNCTIONS),
)
def test_groups_of_a_pandas_frame_are_mapped_one_by_one(pool, frame, by, fn):
    groups = frame.groupby(by, observed=True)
    parts = [fn(group) for _, group in groups]
    result = raddle.map_frame(fn, frame, by=by, executor=pool)
    if not parts:
        same(result, frame[:0])
        return
    same(result, pandas.concat(parts) if len(parts) > 1 else parts[0])
    same(raddle.map_frame(tasks.row_count, frame, by=by, executor=pool), groups.size())


@SETTINGS
@given(
    frame=frames(), axis=st.sampled_from([0, 1]), fn=st.sampled_from([tasks.describe, tasks.pair])
)
def test_apply_to_a_frame_is_that_of_pandas(pool, frame, axis, fn):
    if fn is tasks.pair and axis == 0 and len(frame) == 0:
        return
    expected = frame.apply(fn, axis=axis)
    same(raddle.apply(fn, frame, axis=axis, executor=pool), expected)


# Of pandas, where a missing value is among categories.
@pytest.mark.filterwarnings("ignore:The behavior of Index.insert with object-dtype")
@settings(SETTINGS, max_examples=12)
@given(frame=frames(), fn=st.sampled_from([str, tasks.sometimes, type, tasks.identity]))
def test_apply_to_each_column_is_that_of_pandas(pool, frame, fn):
    for name in frame.columns:
        expected = frame[name].apply(fn)
        same(raddle.apply(fn, frame[name], executor=pool), expected)


@SETTINGS
@given(frame=frames(), chunks=st.integers(1, 5))
def test_a_polars_frame_and_a_pyarrow_table_are_mapped_as_they_are(pool, frame, chunks):
    table = pyarrow.Table.from_pandas(
        frame.drop(columns="m", errors="ignore").reset_index(drop=True)
    )
    same = raddle.map_frame(tasks.identity, table, chunks=chunks, executor=pool)
    # As of JSON: NaN is not equal to itself.
    assert same.schema.equals(table.schema, check_metadata=True)
    assert str(same.to_pylist()) == str(table.to_pylist())
    polar = polars.from_arrow(table)
    back = raddle.map_frame(tasks.identity, polar, chunks=chunks, executor=pool)
    polars.testing.assert_frame_equal(back, polar)
    column = raddle.map_frame(tasks.identity, polar["f"], chunks=chunks, executor=pool)
    polars.testing.assert_series_equal(column, polar["f"])


@SETTINGS
@given(
    keys=st.lists(st.sampled_from([2, 1, None]), max_size=12),
    by=st.sampled_from(["k", ["k"], ["k", "s"]]),
)
def test_groups_of_polars_and_pyarrow_come_in_the_order_of_their_first_rows(pool, keys, by):
    table = pyarrow.table(
        {
            "k": pyarrow.array(keys, pyarrow.int16()),
            "s": pyarrow.array(["ab"[row % 2] for row in range(len(keys))], pyarrow.string()),
            "v": pyarrow.array(range(len(keys)), pyarrow.float32()),
        }
    )
    rows = list(zip(*(table[name].to_pylist() for name in by)))
    order = sorted(range(len(keys)), key=lambda row: rows.index(rows[row]))
    result = raddle.map_frame(tasks.identity, table, by=by, executor=pool)
    expected = table.take(pyarrow.array(order, pyarrow.int64()))
    assert result.equals(expected, check_metadata=True)
    polar = polars.from_arrow(table)
    result = raddle.map_frame(tasks.identity, polar, by=by, executor=pool)
    polars.testing.assert_frame_equal(result, polars.from_arrow(expected))
    if keys:
        counts = [rows.count(row) for row in dict.fromkeys(rows)]
        for frame in (table, polar):
            result = raddle.map_frame(tasks.row_count, frame, by=by, executor=pool)
            assert list(result.to_numpy()) == counts


ARRAYS = ["f8", "i4", "M8[s]", "U3", "?", "c16", "O", ">i2", [("one", "i4"), ("two", "f4")]]


@SETTINGS
@given(
    shape=st.tuples(st.integers(0, 9), st.integers(1, 3)),
    kind=st.sampled_from(ARRAYS),
    order=st.sampled_from("CF"),
    chunks=st.integers(1, 5),
)
def test_an_array_is_mapped_as_it_is(pool, shape, kind, order, chunks):
    array = numpy.arange(numpy.prod(shape)).reshape(shape).astype(kind, order=order)
    by = numpy.arange(len(array)) % 2
    groups = numpy.concatenate([array[by == 0], array[by == 1]], dtype=array.dtype)
    for expected, how in ((array, {"chunks": chunks}), (groups, {"by": by})):
        result = raddle.map_frame(tasks.identity, array, **how, executor=pool)
        assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
        assert result.tolist() == expected.tolist()
    column = raddle.map_frame(tasks.identity, array[:, 0], chunks=chunks, executor=pool)
    assert column.tolist() == array[:, 0].tolist()


NUMBERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "?", ">i4", ">f8"]


@SETTINGS
@given(values=st.lists(st.integers(0, 127), max_size=9), kind=st.sampled_from(NUMBERS))
def test_apply_calls_with_the_numbers_that_pandas_calls_with(pool, values, kind):
    wide = pandas.DataFrame(numpy.array([values, values], dtype=kind).T, columns=["one", "two"])
    for series in (wide["one"], -wide["two"] if kind != "?" else wide["two"]):
        for fn in (repr, type, tasks.identity):
            same(raddle.apply(fn, series, executor=pool), series.apply(fn))
