"""What workers are told of the program: levels, whether it handles records, filters of warnings."""

import logging
import re
import textwrap
import warnings

import pytest
import record_tasks
from process_programs import run_python


@pytest.fixture
def logger():
    """A logger of the test's own, as new."""
    one = logging.getLogger("raddle-test.task")
    yield one
    one.setLevel(logging.NOTSET)


# levels


def test_levels_that_a_worker_has_set_stay_when_others_change(make_default, logger):
    before = logging.root.level
    pool = make_default(1, initializer=record_tasks.set_levels, initargs=(logging.DEBUG, 5))
    assert pool.submit(record_tasks.levels).result() == (logging.DEBUG, 5, 0)
    logger.setLevel(logging.ERROR)
    assert pool.submit(record_tasks.levels).result() == (logging.DEBUG, 5, logging.ERROR)
    # What changes in the program changes in the worker.
    logging.root.setLevel(logging.CRITICAL)
    try:
        assert pool.submit(record_tasks.levels).result() == (logging.CRITICAL, 5, logging.ERROR)
    finally:
        logging.root.setLevel(before)
    logger.setLevel(logging.NOTSET)
    assert pool.submit(record_tasks.levels).result() == (before, 5, 0)


# handlers


def test_a_module_that_configures_logging_takes_no_records_from_the_program(
    make_ours, caplog, tmp_path
):
    pool = make_ours(1)
    path = tmp_path / "log"
    pool.submit(record_tasks.configure_here, str(path)).result()
    pool.submit(record_tasks.log, logging.WARNING, "to the program").result()
    assert [record.getMessage() for record in caplog.records] == ["to the program"]
    assert not path.exists()


def test_a_worker_of_a_program_without_handlers_configures_itself(tmp_path):
    path = tmp_path / "log"
    program = textwrap.dedent(f"""
        import raddle
        def task():
            import logging
            logging.basicConfig(filename={str(path)!r}, format="%(message)s")
            logging.warning("to the file")
        with raddle.ProcessPoolExecutor(1) as pool:
            pool.submit(task).result()
    """)
    assert run_python("-c", program) == []
    assert path.read_text() == "to the file\n"


# filters


@pytest.fixture(autouse=True)
def filters():
    """Undoes what a test does with the filters of this process."""
    with warnings.catch_warnings():
        # Without those of pytest, whose classes no worker has.
        warnings.resetwarnings()
        warnings.simplefilter("default")
        yield


def described():
    return record_tasks.filters()


def test_filters_are_those_of_the_program(make_ours):
    warnings.filterwarnings("ignore", "some (text|thing)", RuntimeWarning, "a.b", 7)
    warnings.filterwarnings("default", category=record_tasks.OwnWarning)
    pool = make_ours(1)
    assert pool.submit(record_tasks.filters).result() == described()
    # Changed while the worker lives: from the next task on.
    warnings.simplefilter("once", BytesWarning)
    assert pool.submit(record_tasks.filters).result() == described()
    warnings.resetwarnings()
    assert pool.submit(record_tasks.filters).result() == []


def test_a_filter_of_a_class_that_is_not_loaded_holds_once_it_is(make_default):
    import shutil

    class Gone(UserWarning):
        pass

    # Nothing of the pool loads this module.
    Gone.__module__, Gone.__qualname__ = "shutil", "ReadError"
    pool = make_default(1)
    warnings.simplefilter("ignore", Gone)
    assert "ReadError" not in str(pool.submit(record_tasks.filters).result())
    pool.submit(record_tasks.load, shutil.__name__).result()
    assert "ReadError" in str(pool.submit(record_tasks.filters).result())


def test_filters_of_a_worker_s_own_stay_when_those_of_the_program_change(make_default):
    pool = make_default(1, initializer=record_tasks.ignore, initargs=(FutureWarning,))
    own = ("ignore", None, "FutureWarning", None, 0)
    assert pool.submit(record_tasks.filters).result() == [own, *described()]
    warnings.simplefilter("ignore", RuntimeWarning)
    assert pool.submit(record_tasks.filters).result() == [own, *described()]


def test_filters_with_patterns_match_as_the_program_s(make_default):
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "harm(less)?", UserWarning)
    warnings.filterwarnings("ignore", module=re.escape("record_tasks"), category=FutureWarning)
    pool = make_default(1)
    assert pool.submit(record_tasks.warn, "HARMLESS, really", UserWarning).exception() is None
    assert pool.submit(record_tasks.warn, "anything", FutureWarning).exception() is None
    assert type(pool.submit(record_tasks.warn, "not so", UserWarning).exception()) is UserWarning


def test_a_program_that_has_set_nothing_announces_nothing():
    program = textwrap.dedent("""
        import raddle
        from raddle._announce import describe
        with raddle.ProcessPoolExecutor(1) as pool:
            pool.submit(abs, 1).result()
        print(describe())
    """)
    assert run_python("-c", program) == ["None"]
