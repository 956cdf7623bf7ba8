"""Workers of pools that raddle makes for a call: they have numpy and pandas from the start."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import types
import warnings

import array_tasks
import numpy
import pandas
import polars
import preload_tasks as tasks
import pyarrow
import pytest
import record_tasks
from process_programs import MarkedProgram
from programs import run

import raddle
from raddle import _libraries, _preloaded_template, _template_process
from raddle._libraries import OwnPool, needed_for

ALL = ("numpy", "pyarrow", "pandas")


@pytest.fixture
def own(pools):
    """Makes pools whose tasks are known to need the libraries."""

    def make(workers=1, libraries=ALL):
        pools.append(OwnPool(workers, libraries))
        return pools[-1]

    return make


def small():
    return pandas.DataFrame({"f": numpy.arange(10.0), "s": list("abcdefghij")})


# what a worker is


def test_a_worker_has_the_libraries_before_its_first_task(own, make_default):
    template, names = own().submit(tasks.loaded).result()
    assert names == ["numpy", "pandas", "pyarrow"]
    assert template != os.getpid()
    plain, names = make_default(1).submit(tasks.loaded).result()
    assert (plain != template, names) == (True, [])


def test_map_frame_and_apply_have_such_workers():
    template = own_template()
    result = raddle.map_frame(tasks.templates, small(), workers=2)
    assert set(result["template"]) == {template}
    result = raddle.apply(lambda row: os.getppid(), small(), axis=1, workers=2)
    assert set(result) == {template}


def test_a_map_in_processes_has_such_workers():
    template = own_template()
    parents = raddle.map(lambda n: (numpy.abs(n), os.getppid())[1], range(4), how="processes")
    assert set(parents) == {template}


def own_template():
    """The process that starts workers with libraries."""
    with OwnPool(1, ALL) as pool:
        return pool.submit(os.getppid).result()


def test_the_template_has_one_thread(own):
    template, _ = own().submit(tasks.loaded).result()
    assert len(os.listdir(f"/proc/{template}/task")) == 1


@pytest.mark.parametrize(
    ("workers", "told"),
    [(1, {}), (64, {}), (64, {"OMP_NUM_THREADS": "2"}), (1, {"OPENBLAS_NUM_THREADS": "1"})],
)
def test_libraries_compute_with_as_many_threads_as_if_the_worker_had_loaded_them(
    own, make_default, monkeypatch, workers, told
):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", raddle.OversubscriptionWarning)
        ours, plain = own(workers), make_default(workers)
    found = ours.submit(tasks.openblas_threads).result()
    assert len(found) > 1
    assert found == plain.submit(tasks.openblas_threads).result()
    expected = plain.submit(tasks.arrow_threads).result()
    assert ours.submit(tasks.arrow_threads).result() == expected
    assert expected[1] == 2


def test_large_arrays_of_a_task_lie_where_its_result_is_sent_from(own):
    pool = own()
    # Where the program is slow to answer, they lie elsewhere until the end of the task.
    asked = (pool.submit(array_tasks.where_they_lie, array_tasks.COUNT) for _ in range(50))
    assert any(all(future.result()) for future in asked)


def test_smaller_arrays_take_memory_that_was_freed(own):
    pages, rounds = 800, 20
    pool = own()
    pool.submit(tasks.page_faults, pages, rounds).result()
    # A process that gives each back to the system has one for each page of each.
    assert pool.submit(tasks.page_faults, pages, rounds).result() < pages * rounds / 2


def test_workers_draw_different_numbers(own):
    drawn = set()
    for _ in range(3):
        with OwnPool(1, ALL) as pool:
            drawn.add(tuple(pool.submit(tasks.draw).result()))
    assert len(drawn) == 3


def test_a_worker_is_what_the_program_is_as_every_other(own, make_default, monkeypatch):
    own().submit(abs, 1).result()
    monkeypatch.setenv("SET_AFTER_THE_TEMPLATE_HAD_STARTED", "1")
    ours, plain = own(), make_default(1)
    expected = plain.submit(tasks.start_of_worker).result()
    assert expected["environ"]["SET_AFTER_THE_TEMPLATE_HAD_STARTED"] == "1"
    assert ours.submit(tasks.start_of_worker).result() == expected


def test_records_and_warnings_reach_the_program(own, caplog):
    with caplog.at_level(logging.INFO):
        pool = own()
        pool.submit(record_tasks.info, "told").result()
    (record,) = caplog.records
    assert record.getMessage() == "told"
    assert record.processName.startswith("RaddleProcess")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pool.submit(record_tasks.warn, "look", UserWarning).result()
    assert [str(each.message) for each in seen] == ["look"]


def test_polars_may_be_used_in_such_a_worker():
    def through_polars(part):
        import polars

        return polars.from_pandas(part).group_by("s").len().sort("s").to_pandas()

    result = raddle.map_frame(through_polars, small(), chunks=2, workers=2)
    assert result["s"].tolist() == list("abcdefghij")


def test_a_worker_may_have_pools_of_its_own(own, make_default):
    pool = own()
    names, threads = pool.submit(tasks.nested).result()
    assert {"numpy", "pandas"} <= set(names)
    assert threads == pool.submit(tasks.openblas_threads).result()


# one template for all


def test_pools_one_after_the_other_share_it():
    assert own_template() == own_template()


def test_one_with_more_serves_who_needs_less(own):
    template, _ = own().submit(tasks.loaded).result()
    with OwnPool(1, ("numpy",)) as pool:
        assert pool.submit(os.getppid).result() == template


def test_a_pool_goes_on_when_it_is_killed_and_the_next_has_another(own):
    pool = own()
    template, _ = pool.submit(tasks.loaded).result()
    os.kill(template, signal.SIGKILL)
    parents = {template}
    while parents <= {template, 1}:
        # The worker dies with it, in its own time.
        future = pool.submit(os.getppid)
        parents = set() if future.exception() else {future.result()}
    after, names = own().submit(tasks.loaded).result()
    assert after not in {template, *parents}
    assert "pandas" in names


def test_a_program_that_changed_what_its_children_inherit_gets_another(own):
    first = own()
    template = first.submit(os.getppid).result()
    before = os.umask(0o31)
    try:
        second = own()
        assert second.submit(os.getppid).result() != template
        assert second.submit(os.umask, 0).result() == 0o31
    finally:
        os.umask(before)


def test_a_forked_child_makes_one_of_its_own():
    source = """
        import numpy, warnings
        from raddle._libraries import OwnPool
        with OwnPool(1, ("numpy",)) as pool:
            ours = pool.submit(os.getppid).result()
        warnings.simplefilter("ignore", DeprecationWarning)  # Of threads.
        child = os.fork()
        if child == 0:
            with OwnPool(1, ("numpy",)) as pool:
                theirs = pool.submit(os.getppid).result()
            os._exit(0 if theirs not in (ours, os.getppid()) else 1)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        with OwnPool(1, ("numpy",)) as pool:
            say(pool.submit(os.getppid).result() == ours)
        # It ends with the program, or this test does not: it has its output.
    """
    assert run("raddle", source) == (0, ["0", "True"], [])


def test_nothing_is_left_of_a_program_that_was_killed():
    source = """
        import numpy
        from raddle._libraries import OwnPool
        pool = OwnPool(2, ("numpy",))
        say(*{pool.submit(os.getppid).result(), pool.submit(os.getpid).result()})
        pool.submit(time.sleep, 1000)
        time.sleep(1000)
    """
    with MarkedProgram(source) as program:
        assert {int(pid) for pid in program.read().split()} <= set(program.others())
        program.kill()
        program.wait_nothing_left()


def test_nothing_is_left_of_one_that_was_killed_while_a_library_does_not_come_back(tmp_path):
    (tmp_path / "endless.py").write_text("import time\nwhile True: time.sleep(1)")
    source = f"""
        import types
        from raddle import _preloaded_template as templates
        from raddle._libraries import OwnPool
        os.environ["PYTHONPATH"] = {str(tmp_path)!r}
        sys.modules["endless"] = types.ModuleType("endless")
        sys.modules["endless"].__file__ = {str(tmp_path / "endless.py")!r}
        templates.LIBRARIES, templates.LOADING_SECONDS = ("endless",), 1.0
        pool = OwnPool(1, ("endless",))
        made = templates._kept
        pool.submit(abs, 1)
        while not made._has_begun: time.sleep(0.001)
        say("loading")
        time.sleep(1000)
    """
    with MarkedProgram(source) as program:
        program.expect("loading")
        program.kill()
        program.wait_nothing_left()


def test_a_program_without_these_libraries_has_none():
    source = """
        from raddle._libraries import needed_for
        say(needed_for(say, sys), *sorted({"numpy", "pandas"} & set(sys.modules)))
    """
    assert run("raddle", source) == (0, ["()"], [])


# one that is of no use


@pytest.fixture
def template(monkeypatch, tmp_path):
    """Makes a template that loads a module of this text."""
    made = []

    def make(text, file=None):
        folder = tmp_path / "libraries" / "odd"
        folder.mkdir(parents=True)
        path = folder / "odd_library.py"
        path.write_text(text)
        module = types.ModuleType("odd_library")
        module.__file__ = file or str(path)
        monkeypatch.setitem(sys.modules, "odd_library", module)
        monkeypatch.setenv("PYTHONPATH", f"{folder}:{tmp_path / 'users'}")
        made.append(_template_process.Template())
        made.append(_preloaded_template.PreloadedTemplate(made[0], ("odd_library",)))
        return made[-1]

    yield make
    for each in made:
        each.end()


def test_a_library_that_does_not_load_is_told(template):
    with pytest.raises(_template_process.TemplateEnded, match=r"odd_library: .*ValueError: no"):
        template("raise ValueError('no')").ask("reap", 1)


def test_a_library_from_elsewhere_is_none(template):
    with pytest.raises(_template_process.TemplateEnded, match="loaded from /else/where"):
        template("", "/else/where").ask("reap", 1)


def test_a_library_that_starts_a_thread_is_not_forked(template):
    text = "import threading; threading.Thread(target=threading.Event().wait).start()"
    with pytest.raises(_template_process.TemplateEnded, match="2 threads"):
        template(text).ask("reap", 1)


def test_a_library_that_does_not_come_back_is_given_up(template, monkeypatch):
    monkeypatch.setattr(_preloaded_template, "LOADING_SECONDS", 0.3)
    made = template("import time\nwhile True: time.sleep(1)")
    with pytest.raises(_template_process.TemplateEnded, match="took too long"):
        made.ask("reap", 1)


def test_modules_of_the_user_s_are_not_loaded_along(template, tmp_path):
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "of_the_user.py").write_text("")
    with pytest.raises(_template_process.TemplateEnded, match="of_the_user has been loaded too"):
        template("import of_the_user").ask("reap", 1)


def test_the_plain_template_serves_in_the_place_of_one_of_no_use(monkeypatch, make_default):
    (plain, _) = make_default(1).submit(tasks.loaded).result()
    module = types.ModuleType("odd_library")
    module.__file__ = "/else/where"
    monkeypatch.setitem(sys.modules, "odd_library", module)
    monkeypatch.setattr(_preloaded_template, "LIBRARIES", (*ALL, "odd_library"))
    monkeypatch.setattr(_preloaded_template, "_kept", None)
    monkeypatch.setattr(_preloaded_template, "_hopeless", set())
    for _ in range(2):
        with OwnPool(2, ("odd_library",)) as pool:
            parents = {each.result() for each in [pool.submit(os.getppid) for _ in range(4)]}
            assert parents == {plain}
        # It is not tried again.
        assert _preloaded_template._hopeless == {("odd_library",)}


def test_a_template_that_nobody_can_fork_is_tried_again_later(monkeypatch, make_default):
    (plain, _) = make_default(1).submit(tasks.loaded).result()
    monkeypatch.setattr(_preloaded_template, "_kept", None)
    monkeypatch.setattr(_preloaded_template, "_hopeless", set())
    os.kill(plain, signal.SIGKILL)
    with OwnPool(1, ("numpy",)) as pool:
        other, _ = pool.submit(tasks.loaded).result()
    assert other != plain
    assert _preloaded_template._hopeless == set()


def test_what_it_logs_and_warns_of_while_it_loads_does_no_harm(template):
    text = """
import logging, warnings
logging.warning("no")
warnings.warn("no")
"""
    made = template(text)
    made.tell("open", 1)
    with pytest.raises(_template_process.TemplateEnded, match="it has ended"):
        # It serves, and this nobody can answer.
        made.ask("reap", 1)
    assert made._is_ready


# what is needed


class WithPandas(pandas.DataFrame):
    pass


def use_numpy(part):
    return numpy.mean(part)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((small(),), ALL),
        ((WithPandas(),), ALL),
        ((numpy.arange(3),), ("numpy",)),
        ((pyarrow.table({"n": [1]}),), ("numpy", "pyarrow")),
        ((polars.DataFrame({"n": [1]}), len), ()),
        ((1, "text", None, print, os.path.join, [1.5]), ()),
        (([pandas.Timestamp(0)],), ALL),
        # A function of this module, which loads pandas.
        ((use_numpy,), ALL),
        ((functools.partial(use_numpy, 1),), ALL),
        # What is sent as its code needs what that names.
        ((lambda part: numpy.mean(part),), ("numpy",)),
        ((lambda part: use_numpy(part),), ALL),
        ((lambda part: part + 1,), ()),
        ((tasks.draw,), ()),
        ((small().mean,), ALL),
    ],
)
def test_what_a_task_needs_is_seen_in_it(values, expected):
    assert needed_for(*values) == expected


def test_the_look_for_it_ends(monkeypatch):
    monkeypatch.setattr(_libraries, "_MOST", 1)
    assert needed_for(use_numpy) == ()


def test_apply_loads_nothing_for_what_needs_nothing():
    numbers = pandas.Series([1, 2, 3])
    parents = set(raddle.apply(lambda n: (os.getppid(), n), numbers, workers=1))
    with raddle.ProcessPoolExecutor(1) as pool:
        plain = pool.submit(os.getppid).result()
    assert parents == {(plain, 1), (plain, 2), (plain, 3)}
