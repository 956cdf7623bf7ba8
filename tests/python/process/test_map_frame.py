"""`map_frame` and `apply`: the result is that of the same, one part after the other, here."""

from __future__ import annotations

import concurrent.futures
import pickle
import threading

import frame_tasks as tasks
import numpy
import pandas
import polars
import polars.testing
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raddle
from raddle import _map_frame


@pytest.fixture(scope="module")
def pool():
    with raddle.ProcessPoolExecutor(2) as executor:
        yield executor


PANDAS_FUNCTIONS = [tasks.with_double, tasks.identity, tasks.first_column, tasks.even_rows]


@given(sizes=st.lists(st.integers(0, 1000), min_size=1, max_size=30), most=st.integers(1, 9))
def test_groups_are_sent_in_runs_and_in_no_more_tasks_than_asked(sizes, most):
    runs = list(_map_frame._weighed([range(size) for size in sizes], most))
    assert [place for run in runs for place in range(*run)] == list(range(len(sizes)))
    assert 1 <= len(runs) <= most


def test_a_large_group_is_sent_alone():
    assert list(_map_frame._weighed([b"12345678", b"1", b"1" * 7], 2)) == [(0, 1), (1, 3)]


# what fn returns


def small(rows=10):
    return pandas.DataFrame(
        {"f": numpy.arange(float(rows)), "i": range(rows), "s": list("abcdefghij" * 9)[:rows]}
    )


def test_large_columns_arrive_whole(pool):
    frame = pandas.DataFrame(numpy.arange(400_000.0).reshape(-1, 4), columns=list("fghi"))
    result = raddle.map_frame(tasks.with_double, frame, chunks=3, executor=pool)
    pandas.testing.assert_frame_equal(result, tasks.with_double(frame))


def many_texts(rows=1000):
    frame = small(10).iloc[[number % 10 for number in range(rows)]].reset_index(drop=True)
    frame["i"] = range(rows)
    frame["s"] = [f"row {number} \u00e4" for number in range(rows)]
    frame.insert(1, "other", [f"{number}" for number in range(rows)])
    return frame


@pytest.mark.parametrize("fn", [*PANDAS_FUNCTIONS, tasks.write_texts, tasks.swap, tasks.only_texts])
@pytest.mark.parametrize("chunks", [1, 3])
def test_columns_of_strings_are_as_the_function_leaves_them(pool, fn, chunks):
    frame = many_texts()
    result = raddle.map_frame(fn, frame, chunks=chunks, executor=pool)
    expected = pandas.concat([fn(frame.iloc[part].copy()) for part in tasks.bounds(1000, chunks)])
    assert type(result) is type(expected)
    assert result.equals(expected)
    if result.ndim == 2:
        result.loc[:, "s"] = "written"
    pandas.testing.assert_frame_equal(frame, many_texts())


@pytest.mark.parametrize("odd", [None, float("nan"), 3, "\ud800", numpy.str_("text")])
def test_a_column_with_something_else_among_strings_is_as_it_was(pool, odd):
    frame = many_texts()
    frame.loc[500, "s"] = odd
    frame.columns = ["x", "x", "y", "x"]
    result = raddle.map_frame(tasks.identity, frame, chunks=2, executor=pool)
    pandas.testing.assert_frame_equal(result, frame)
    assert type(result.iloc[500, 3]) is type(frame.iloc[500, 3])


def test_columns_of_strings_in_groups_and_threads(pool):
    frame = many_texts()
    frame["k"] = [number // 200 for number in range(1000)]
    result = raddle.map_frame(tasks.write_texts, frame, by="k", executor=pool)
    groups = [group.copy() for _, group in frame.groupby("k")]
    pandas.testing.assert_frame_equal(result, pandas.concat(map(tasks.write_texts, groups)))
    with raddle.ThreadPoolExecutor(2) as threads:
        result = raddle.map_frame(tasks.write_texts, frame, chunks=3, executor=threads)
    parts = [frame.iloc[part].copy() for part in tasks.bounds(1000, 3)]
    pandas.testing.assert_frame_equal(result, pandas.concat(map(tasks.write_texts, parts)))


def test_single_values_make_a_series_or_an_array(pool):
    counts = raddle.map_frame(tasks.row_count, small(), chunks=3, executor=pool)
    pandas.testing.assert_series_equal(counts, pandas.Series([3, 3, 4]))
    polar = raddle.map_frame(tasks.row_count, polars.from_pandas(small()), chunks=3, executor=pool)
    polars.testing.assert_series_equal(polar, polars.Series([3, 3, 4]))
    table = pyarrow.Table.from_pandas(small())
    assert raddle.map_frame(tasks.row_count, table, chunks=3, executor=pool).to_pylist() == [
        3,
        3,
        4,
    ]
    array = raddle.map_frame(tasks.row_count, numpy.arange(10), chunks=3, executor=pool)
    assert array.tolist() == [3, 3, 4]


def test_groups_of_the_other_libraries(pool):
    frame = pandas.DataFrame({"k": [2, 1, 2, 1], "v": [1, 2, 3, 4]})
    polar = raddle.map_frame(tasks.identity, polars.from_pandas(frame), by="k", executor=pool)
    assert polar["v"].to_list() == [1, 3, 2, 4]
    table = pyarrow.Table.from_pandas(frame)
    assert raddle.map_frame(tasks.identity, table, by="k", executor=pool)["v"].to_pylist() == [
        1,
        3,
        2,
        4,
    ]
    both = raddle.map_frame(tasks.row_count, table, by=["k", "v"], executor=pool)
    assert both.to_pylist() == [1, 1, 1, 1]
    values = frame["v"].to_numpy()
    array = raddle.map_frame(tasks.identity, values, by=frame["k"], executor=pool)
    assert array.tolist() == [2, 4, 1, 3]


def test_nothing_from_every_part_is_nothing(pool):
    for frame in (small(), polars.from_pandas(small()), pyarrow.Table.from_pandas(small())):
        assert raddle.map_frame(tasks.nothing, frame, executor=pool) is None
    assert raddle.map_frame(tasks.nothing, numpy.arange(3), executor=pool) is None


def test_categories_found_in_each_part_are_those_found_in_all(pool):
    result = raddle.map_frame(tasks.as_category, small(), chunks=4, executor=pool)
    pandas.testing.assert_frame_equal(result, tasks.as_category(small()))


def test_a_part_is_the_functions_own(pool):
    frame = small()
    result = raddle.map_frame(tasks.write, frame, chunks=2, executor=pool)
    assert set(result["f"]) == {-1.0}
    pandas.testing.assert_frame_equal(frame, small())


def test_a_lambda_and_a_pool_of_its_own():
    result = raddle.map_frame(lambda part: part["f"] + 1, small(), workers=1)
    pandas.testing.assert_series_equal(result, small()["f"] + 1)


def test_progress_is_told_in_order(pool):
    told = []
    raddle.map_frame(
        tasks.identity, small(), chunks=3, executor=pool, progress=lambda *step: told.append(step)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_threads_of_another_executor_do_as_well():
    with raddle.ThreadPoolExecutor(2) as executor:
        result = raddle.map_frame(tasks.with_double, small(), executor=executor)
        assert raddle.apply(tasks.double, small()["f"], executor=executor).sum() == 90
    pandas.testing.assert_frame_equal(result, tasks.with_double(small()))


def test_further_arguments_of_apply(pool):
    keywords = {"args": (1,), "kwargs": {"more": 2}}
    result = raddle.apply(tasks.plus, small()["f"], executor=pool, **keywords)
    pandas.testing.assert_series_equal(result, small()["f"].apply(tasks.plus, args=(1,), more=2))
    result = raddle.apply(tasks.plus, small()[["f", "i"]], executor=pool, **keywords)
    expected = small()[["f", "i"]].apply(tasks.plus, args=(1,), more=2)
    pandas.testing.assert_frame_equal(result, expected)


@pytest.mark.parametrize("result_type", [None, "expand", "reduce"])
def test_apply_expands_as_pandas_does(pool, result_type):
    def both(row):
        return [row["f"], row["i"]]

    result = raddle.apply(both, small(), axis=1, result_type=result_type, executor=pool)
    expected = small().apply(both, axis=1, result_type=result_type)
    (
        pandas.testing.assert_frame_equal
        if expected.ndim == 2
        else pandas.testing.assert_series_equal
    )(result, expected)


@pytest.mark.parametrize("fn", [numpy.sqrt, "sum", len], ids=str)
def test_what_pandas_does_in_another_way_it_does_here(pool, fn):
    frame = small()[["f", "i"]]
    result, expected = raddle.apply(fn, frame, executor=pool), frame.apply(fn)
    assert result.equals(expected)
    categories = small()["s"].astype("category")
    result = raddle.apply(str.upper, categories, executor=pool)
    pandas.testing.assert_series_equal(result, categories.apply(str.upper))


# errors


def error_of(call):
    with pytest.raises(ValueError, match="not wanted") as caught:
        call()
    return str(caught.value.__cause__)


def test_an_error_names_its_rows(pool):
    for frame in (small(), polars.from_pandas(small()), pyarrow.Table.from_pandas(small())):
        told = error_of(
            lambda: raddle.map_frame(tasks.fail_at_five, frame, chunks=5, executor=pool)
        )
        assert "raised by the function in rows 4 to 5" in told
        assert "fail_at_five" in told


def test_an_error_names_its_group(pool):
    told = error_of(lambda: raddle.map_frame(tasks.fail_at_five, small(), by="s", executor=pool))
    assert "raised by the function in the group 'f'" in told


def test_an_error_of_apply_names_its_rows(pool):
    told = error_of(lambda: raddle.apply(tasks.fail_at_seven, small()["i"], executor=pool))
    assert "raised by the function in elements 7 to 7" in told or "in elements 6 to 7" in told


def test_after_an_error_nothing_more_is_begun():
    begun, go_on = [], threading.Event()

    def fail(part):
        begun.append(part)
        if len(begun) == 1:
            raise ValueError("the first")
        go_on.wait(60)

    with raddle.ThreadPoolExecutor(1) as executor:
        with pytest.raises(ValueError, match="the first"):
            raddle.map_frame(fail, numpy.arange(1000), chunks=1000, executor=executor)
        go_on.set()
    assert len(begun) <= 2


def test_results_that_do_not_go_together_are_told(pool):
    with pytest.raises(TypeError, match="DataFrame for one and Series for another"):
        raddle.map_frame(tasks.frame_or_series, small(), chunks=2, executor=pool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: raddle.map_frame(len, [1, 2]), "a DataFrame or Series of pandas"),
        (lambda: raddle.map_frame(3, small()), "takes a function first"),
        (lambda: raddle.map_frame(len, small(), chunks=0), "chunks= must be >= 1"),
        (lambda: raddle.map_frame(len, small(), chunks=1.5), "chunks= must be an int"),
        (lambda: raddle.map_frame(len, small(), executor=3), "must be an executor"),
        (lambda: raddle.map_frame(len, numpy.array(3)), "no rows"),
        (lambda: raddle.map_frame(len, numpy.arange(3), by=[1]), "one key for each"),
        (lambda: raddle.apply(len, numpy.arange(3)), "map_frame"),
        (lambda: raddle.apply(len, small(), axis=2), "axis="),
        (lambda: raddle.apply(len, small(), axis=1, result_type="broadcast"), "result_type="),
    ],
)
def test_bad_arguments_are_told_at_the_call(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_workers_are_for_a_pool_of_its_own(pool):
    with pytest.raises(ValueError, match="workers="):
        raddle.map_frame(len, small(), executor=pool, workers=2)


def test_the_package_loads_none_of_the_libraries(run_python):
    loaded = run_python(
        "import sys, raddle\n"
        "with raddle.ProcessPoolExecutor(1) as pool:\n"
        "    pool.submit(len, b'x' * 1_000_000).result()\n"
        "raddle.map_frame, raddle.apply\n"
        "print({'numpy', 'pandas', 'polars', 'pyarrow'} & set(sys.modules))"
    )
    assert loaded.strip() == "set()"


@pytest.fixture
def run_python():
    import subprocess
    import sys

    def run(program):
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout

    return run


def test_rows_whose_key_is_nan_are_a_group(pool):
    keys = numpy.array([1.0, numpy.nan, 1.0, numpy.nan, 2.0])
    counts = raddle.map_frame(len, numpy.arange(5.0), by=keys, executor=pool)
    assert counts.tolist() == [2, 1, 2]
    table = pyarrow.table({"key": keys, "value": range(5)})
    assert raddle.map_frame(len, table, by="key", executor=pool).to_pylist() == [2, 2, 1]


@pytest.mark.parametrize("chunks", [1, 3])
def test_what_threads_write_is_not_the_callers(chunks):
    def write(part):
        part *= 2
        return part

    array, frame = numpy.arange(6), pandas.DataFrame({"a": range(6)})
    with raddle.ThreadPoolExecutor(2) as threads:
        doubled = raddle.map_frame(write, array, chunks=chunks, executor=threads)
        frames = raddle.map_frame(write, frame, chunks=chunks, executor=threads.options(label="x"))
    assert array.tolist() == frame["a"].tolist() == [0, 1, 2, 3, 4, 5]
    assert doubled.tolist() == frames["a"].tolist() == [0, 2, 4, 6, 8, 10]


KEYS = pandas.DataFrame(
    {
        "small": numpy.array([2, 1, 2, 1], dtype="int8"),
        "kind": pandas.Categorical(["x", "y", "x", "x"], categories=["x", "y", "z"]),
        "when": pandas.date_range("2020-01-01", periods=4, freq="D"),
        "v": [1.0, 2.0, 3.0, 4.0],
    }
)
BY = {
    "a name": "small",
    "a list of one": ["small"],
    "categories": "kind",
    "two": ["small", "kind"],
    "time": pandas.Grouper(key="when", freq="36h"),
    "time with empty groups": pandas.Grouper(key="when", freq="12h"),
    "labels": lambda label: label % 2,
    "a Series": pandas.Series([1, 1, 2, 2], name="other", dtype="int16"),
}


@pytest.mark.parametrize("by", BY.values(), ids=list(BY))
@pytest.mark.filterwarnings("ignore:DataFrameGroupBy.apply operated on the grouping columns")
def test_values_of_groups_have_the_index_that_pandas_gives_them(pool, by):
    result = raddle.map_frame(tasks.sum_of_v, KEYS, by=by, executor=pool)
    expected = KEYS.groupby(by, observed=True).apply(tasks.sum_of_v)
    pandas.testing.assert_series_equal(result, expected)


def test_values_of_groups_of_a_series_have_its_name(pool):
    series = KEYS["v"].rename("speed")
    result = raddle.map_frame(tasks.total, series, by=KEYS["kind"], executor=pool)
    expected = series.groupby(KEYS["kind"], observed=True).apply(tasks.total)
    pandas.testing.assert_series_equal(result, expected)


@pytest.mark.parametrize("keys", [[], [numpy.nan, numpy.nan]], ids=["no rows", "keys all NaN"])
def test_without_groups_the_result_is_the_frame_without_rows(pool, keys):
    frame = pandas.DataFrame({"k": pandas.Series(keys, dtype=float), "s": list("ab")[: len(keys)]})
    result = raddle.map_frame(tasks.identity, frame, by="k", executor=pool)
    pandas.testing.assert_frame_equal(result, frame.iloc[:0])
    table = pyarrow.Table.from_pandas(frame.iloc[:0], preserve_index=False)
    assert raddle.map_frame(tasks.identity, table, by="k", executor=pool).equals(table)
    polar = polars.from_pandas(frame.iloc[:0])
    polars.testing.assert_frame_equal(
        raddle.map_frame(tasks.identity, polar, by="k", executor=pool), polar
    )
    array = numpy.empty((0, 2), dtype="i2")
    result = raddle.map_frame(tasks.identity, array, by=[], executor=pool)
    assert (result.shape, result.dtype) == ((0, 2), array.dtype)


def test_categories_of_kinds_that_have_no_order_are_joined(pool):
    frame = pandas.DataFrame({"s": ["a", "b", 1, 2]})
    result = raddle.map_frame(tasks.as_category, frame, chunks=2, executor=pool)
    assert result["s"].tolist() == ["a", "b", 1, 2]
    assert list(result["s"].cat.categories) == ["a", "b", 1, 2]


def test_a_part_without_a_value_takes_the_type_of_the_others(pool):
    table = pyarrow.table({"i": [1, 2, 3, 4]})
    joined = raddle.map_frame(tasks.null_below_three, table, chunks=2, executor=pool)
    assert joined["i"].to_pylist() == [None, None, 3, 4]
    column = raddle.map_frame(tasks.column_null_below_three, table, chunks=2, executor=pool)
    assert column.to_pylist() == [None, None, 3, 4]
    polar = polars.DataFrame({"i": [1, 2, 3, 4]})
    series = raddle.map_frame(tasks.series_null_below_three, polar, chunks=2, executor=pool)
    polars.testing.assert_series_equal(series, polars.Series("i", [None, None, 3, 4]))


def test_a_series_of_polars_has_no_columns_to_group_by(pool):
    with pytest.raises(TypeError, match="pass a DataFrame with the keys"):
        raddle.map_frame(len, polars.Series([1, 2]), by="k", executor=pool)


@pytest.mark.parametrize("keywords", [{"by_row": False}, {"convert_dtype": False}], ids=str)
@pytest.mark.filterwarnings("ignore:the convert_dtype parameter")
def test_keywords_of_pandas_own_apply_are_pandas(pool, keywords):
    series = small()["f"]
    result = raddle.apply(tasks.double, series, kwargs=keywords, executor=pool)
    pandas.testing.assert_series_equal(result, series.apply(tasks.double, **keywords))


def test_strings_that_come_back_unchanged_are_those_that_were_sent():
    frame, go_on = many_texts(), threading.Event()

    class Late(concurrent.futures.ProcessPoolExecutor):
        """Runs a part as a worker does, after the caller has changed the frame."""

        def __init__(self):
            self._max_workers = 1

        def submit(self, fn, /, *args):
            future = concurrent.futures.Future()
            call = pickle.dumps((fn, args), protocol=5)
            threading.Thread(target=self._run, args=(future, call)).start()
            return future

        def _run(self, future, call):
            go_on.wait(60)
            fn, args = pickle.loads(call)
            future.set_result(pickle.loads(pickle.dumps(fn(*args), protocol=5)))

        def shutdown(self, wait=True, *, cancel_futures=False):
            pass

    def change():
        frame["s"].to_numpy()[:] = "changed"
        go_on.set()

    pool = Late()
    submit = pool.submit
    pool.submit = lambda *call: (submit(*call), change())[0]
    result = raddle.map_frame(tasks.identity, frame, chunks=1, executor=pool)
    assert frame["s"].tolist() == ["changed"] * 1000
    pandas.testing.assert_frame_equal(result, many_texts())


def test_a_row_that_apply_writes_in_threads_is_not_the_callers():
    def write(row):
        row["a"] = -1
        return 0

    frame = pandas.DataFrame({"a": range(6), "b": range(6)})
    with raddle.ThreadPoolExecutor(2) as threads:
        raddle.apply(write, frame, axis=1, executor=threads)
    assert frame["a"].tolist() == [0, 1, 2, 3, 4, 5]


def test_strings_that_stand_in_many_places_stay_the_same_objects(pool):
    carriers = ["UA", "AA", "B6", "a\u00e9"]
    frame = pandas.DataFrame({"s": [carriers[number % 4] for number in range(4000)], "i": 1})
    counts = raddle.map_frame(tasks.distinct_objects, frame, chunks=2, executor=pool)
    assert counts.tolist() == [4, 4]
    result = raddle.map_frame(tasks.upper_s, frame, chunks=1, executor=pool)
    expected = frame.assign(s=frame["s"].str.upper())
    pandas.testing.assert_frame_equal(result, expected)
    frame.loc[3999, "s"] = None
    result = raddle.map_frame(tasks.identity, frame, chunks=1, executor=pool)
    pandas.testing.assert_frame_equal(result, frame)
