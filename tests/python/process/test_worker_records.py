"""Log records, warnings and prints of workers: they arrive, in order, before the result."""

import logging
import logging.config
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import warnings

import process_tasks as tasks
import pytest
import record_tasks

from raddle import ProcessPoolExecutor

SECONDS = 60


@pytest.fixture
def logger():
    """A logger of the test's own, as new."""
    one = logging.getLogger("raddle-test.task")
    yield one
    one.setLevel(logging.NOTSET)
    one.handlers.clear()


# log records


def test_records_are_there_when_the_result_is(make_ours, caplog):
    caplog.set_level(logging.INFO)
    pool = make_ours(2)
    for number in range(50):
        assert pool.submit(record_tasks.log, logging.INFO, "number %d", number).result() is None
        record = caplog.records[-1]
        assert (record.name, record.levelno) == ("raddle-test.task", logging.INFO)
        assert (record.msg, record.args) == ("number %d", (number,))
        assert record.getMessage() == f"number {number}"
    assert len(caplog.records) == 50


def test_a_record_says_which_process_and_which_task(make_default, caplog):
    view = make_default(1).options(label="page 7")
    pid = view.submit(os.getpid).result()
    view.submit(record_tasks.log, logging.WARNING, "found").result()
    record = caplog.records[-1]
    assert (record.process, record.processName) == (pid, "RaddleProcess-0")
    assert (record.worker, record.task) == (0, "page 7")
    assert (record.funcName, record.filename) == ("log", "record_tasks.py")
    assert record.threadName == "MainThread"


def test_levels_of_the_program_hold_in_the_workers(make_ours, caplog, logger):
    pool = make_ours(1)
    assert pool.submit(record_tasks.is_enabled, logging.DEBUG).result() is False
    pool.submit(record_tasks.log, logging.INFO, "not wanted").result()
    assert caplog.records == []
    # Changed while the workers live: from the next task on.
    logger.setLevel(logging.DEBUG)
    assert pool.submit(record_tasks.is_enabled, logging.DEBUG).result() is True
    pool.submit(record_tasks.log, logging.DEBUG, "wanted").result()
    assert [record.getMessage() for record in caplog.records] == ["wanted"]
    logger.setLevel(logging.NOTSET)
    assert pool.submit(record_tasks.is_enabled, logging.DEBUG).result() is False
    logging.disable(logging.ERROR)
    try:
        assert pool.submit(record_tasks.is_enabled, logging.ERROR).result() is False
    finally:
        logging.disable(logging.NOTSET)
    assert pool.submit(record_tasks.is_enabled, logging.ERROR).result() is True


def test_a_map_announces_levels_too(make_default, caplog, logger):
    pool = make_default(1)
    pool.submit(abs, 1).result()
    logger.setLevel(logging.INFO)
    list(pool.map(record_tasks.info, ["a", "b", "c"]))
    assert [record.getMessage() for record in caplog.records] == ["a", "b", "c"]


def test_extra_fields_arrive_whatever_they_are(make_default, caplog):
    make_default(1).submit(record_tasks.log_extra).result()
    record = caplog.records[-1]
    assert (record.user, record.sizes) == ("ada", [1, 2.5, None])
    assert record.point == record_tasks.Point(1, 2)
    assert record.lock.startswith("<unlocked _thread.lock")
    assert record.getMessage() == "at Point(x=1, y=2)"


def test_numbers_and_arrays_of_numpy_arrive_as_they_are(make_default, caplog):
    make_default(1).submit(record_tasks.log_arrays).result()
    record = caplog.records[-1]
    assert record.getMessage() == "loss 0.500 of [1 2] in bytearray(b'ab')"
    assert (type(record.loss).__name__, record.loss) == ("float64", 0.5)
    assert (record.several.tolist(), record.raw.tolist()) == ([1, 2], [1, 2])


@pytest.mark.parametrize("way", ["default", "fork"])
def test_records_of_pools_that_workers_fork_arrive(pools, caplog, way):
    context = multiprocessing.get_context("fork") if way == "fork" else None
    pools.append(ProcessPoolExecutor(1, mp_context=context))
    messages = [f"message {number}" for number in range(20)]
    pools[0].submit(record_tasks.log_from_fork, messages).result()
    assert [record.getMessage() for record in caplog.records] == messages


def test_an_exception_arrives_with_its_traceback_in_words(make_default, caplog):
    make_default(1).submit(record_tasks.log_exception).result()
    record = caplog.records[-1]
    kind, value, traceback = record.exc_info
    assert (kind, value.args, traceback) == (ZeroDivisionError, ("division by zero",), None)
    assert "in log_exception" in record.exc_text
    assert "in log_exception" in caplog.text


def test_arguments_that_do_not_fit_are_complained_of_where_the_handler_is(make_default, capsys):
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger("raddle-test").addHandler(handler)
    try:
        make_default(1).submit(record_tasks.log, logging.ERROR, "%d", "not a number").result()
    finally:
        logging.getLogger("raddle-test").removeHandler(handler)
    assert "Logging error" in capsys.readouterr().err


def test_a_null_handler_of_a_library_keeps_nothing_back(make_default, caplog):
    make_default(1).submit(record_tasks.log_with, [logging.NullHandler()]).result()
    assert [record.getMessage() for record in caplog.records] == ["with handlers"]


def test_what_a_handler_of_the_worker_takes_is_not_told_again(make_default, caplog, tmp_path):
    path = tmp_path / "log"
    make_default(1, initializer=record_tasks.configure, initargs=(str(path),)).submit(
        record_tasks.log, logging.WARNING, "to the file"
    ).result()
    assert path.read_text() == "to the file\n"
    assert caplog.records == []


def test_what_a_library_handles_itself_goes_on_above_it(make_default, caplog, tmp_path):
    path = tmp_path / "log"
    handled = []
    handler = logging.Handler()
    handler.emit = handled.append
    library = logging.getLogger("raddle-test")
    library.addHandler(handler)
    try:
        make_default(1).submit(record_tasks.log_to, "raddle-test", str(path)).result()
    finally:
        library.removeHandler(handler)
    assert path.read_text() == "by the library\n"
    # In the program by those above it alone, for its own has been called in the worker.
    assert [record.getMessage() for record in caplog.records] == ["by the library"]
    assert handled == []


def test_handlers_that_a_forked_worker_inherits_run_in_the_program(pools, raddle, logger):
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append((os.getpid(), record.process))
    logger.addHandler(handler)
    import multiprocessing

    pool = raddle.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    pools.append(pool)
    pool.submit(record_tasks.log, logging.WARNING, "forked").result()
    assert seen == [(os.getpid(), pool.submit(os.getpid).result())]


def test_a_configuration_by_dict_is_heeded(tmp_path):
    path = tmp_path / "program.log"
    output = run(f"""
        import logging.config
        logging.config.dictConfig({{
            "version": 1,
            "formatters": {{"f": {{
                "format": "%(processName)s %(levelname)s %(name)s %(message)s"
            }}}},
            "handlers": {{"file": {{"class": "logging.FileHandler", "filename": {str(path)!r},
                                    "formatter": "f"}}}},
            "root": {{"level": "WARNING", "handlers": ["file"]}},
            "loggers": {{"app": {{"level": "DEBUG"}}, "app.noisy": {{"level": "ERROR"}}}},
        }})
        def task(number):
            import logging
            logging.getLogger("app.part").debug("part %d", number)
            logging.getLogger("app.noisy").warning("noise")
            logging.getLogger("other").info("nothing")
            logging.addLevelName(25, "never mind")
            logging.getLogger("app").log(27, "own level")
        logging.addLevelName(27, "NOTICE")
        with raddle.ProcessPoolExecutor(1) as pool:
            list(pool.map(task, range(2)))
    """)
    assert output == ("", "")
    assert path.read_text().splitlines() == [
        "RaddleProcess-0 DEBUG app.part part 0",
        "RaddleProcess-0 NOTICE app own level",
        "RaddleProcess-0 DEBUG app.part part 1",
        "RaddleProcess-0 NOTICE app own level",
    ]


def test_a_program_that_configures_nothing_shows_warnings_and_worse():
    output = run("""
        def task():
            import logging
            logging.info("not shown")
            logging.getLogger("x").warning("shown")
        with raddle.ProcessPoolExecutor(1) as pool:
            pool.submit(task).result()
    """)
    assert output == ("", "shown\n")


@pytest.mark.parametrize("end", ["lives", "is killed", "leaves"])
def test_nothing_is_lost_and_the_order_is_kept(make_default, caplog, end):
    caplog.set_level(logging.INFO)
    futures = [make_default(2).submit(record_tasks.log_many, 3_000, end) for _ in range(2)]
    pids = {error.pid if (error := one.exception()) else one.result() for one in futures}
    of_pid = {}
    for record in caplog.records:
        of_pid.setdefault(record.process, []).append(record.args[0])
    assert set(of_pid) == pids
    assert all(numbers == list(range(3_000)) for numbers in of_pid.values())


def test_records_of_all_threads_of_a_worker_arrive(make_default, caplog):
    caplog.set_level(logging.INFO)
    make_default(1).submit(record_tasks.log_in_threads, 4, 500).result()
    of_thread = {}
    for record in caplog.records:
        of_thread.setdefault(record.threadName, []).append(record.args[0])
    assert sorted(of_thread) == ["logs-0", "logs-1", "logs-2", "logs-3"]
    assert all(numbers == list(range(500)) for numbers in of_thread.values())


def test_a_record_longer_than_the_ring_arrives(make_default, caplog):
    pool = make_default(1)
    pool.submit(record_tasks.log, logging.WARNING, "%s", "x" * 1_000_000).result()
    pool.submit(record_tasks.log, logging.WARNING, "after").result()
    assert [len(record.getMessage()) for record in caplog.records] == [1_000_000, 5]


def test_a_record_arrives_while_its_task_runs_on(make_default, gate):
    seen = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: seen.set()
    logging.getLogger("raddle-test").addHandler(handler)
    try:
        future = make_default(1).submit(record_tasks.log_and, gate)
        # Nobody waits for the result meanwhile.
        assert seen.wait(SECONDS) and not future.done()
    finally:
        logging.getLogger("raddle-test").removeHandler(handler)
        gate.open()
    assert future.exception() is None


def test_a_handler_may_use_the_pool(make_default):
    pool = make_default(1)
    futures = []
    handler = logging.Handler()
    handler.emit = lambda record: futures.append(pool.submit(tasks.square, record.args[0]))
    logging.getLogger("raddle-test").addHandler(handler)
    try:
        for number in range(5):
            pool.submit(record_tasks.log, logging.WARNING, "%d", number).result()
    finally:
        logging.getLogger("raddle-test").removeHandler(handler)
    assert [future.result() for future in futures] == [0, 1, 4, 9, 16]


def test_a_handler_that_fails_costs_no_result_and_no_other_record(make_default, capsys):
    seen = []

    class Fails(logging.Handler):
        def handle(self, record):
            seen.append(record.getMessage())
            raise RuntimeError("of the handler")

    handler = Fails()
    logging.getLogger("raddle-test").addHandler(handler)
    try:
        pool = make_default(1)
        list(pool.map(record_tasks.warn_by_log, ["a", "b"]))
    finally:
        logging.getLogger("raddle-test").removeHandler(handler)
    assert seen == ["a", "b"]
    assert "of the handler" in capsys.readouterr().err


def test_what_a_child_of_a_task_logs_costs_nothing(make_default, caplog):
    assert make_default(1).submit(record_tasks.log_in_child).result() == 0
    assert [record.getMessage() for record in caplog.records] == ["of the parent"]


def test_nothing_is_loaded_in_a_worker_that_logs_nothing():
    out, _ = run("""
        import logging
        logging.basicConfig()
        def look():
            import sys
            return [name for name in ("logging", "raddle._worker_notes") if name in sys.modules]
        with raddle.ProcessPoolExecutor(1) as pool:
            print(pool.submit(look).result())
            import sys
            print("raddle._notes" in sys.modules)
    """)
    assert out == "[]\nFalse\n"


def test_the_functions_of_the_module_log_too(make_default, caplog):
    caplog.set_level(logging.INFO)
    pool = make_default(1)
    pool.submit(record_tasks.log_by_module, "by the module").result()
    pool.submit(record_tasks.log, logging.INFO, "by a logger").result()
    assert [record.getMessage() for record in caplog.records] == ["by the module", "by a logger"]


def test_the_stack_of_a_fault_is_logged(make_unbreakable, caplog):
    assert make_unbreakable(1).submit(tasks.end_by_fault).exception().signal == "SIGSEGV"
    (record,) = [record for record in caplog.records if record.name == "raddle"]
    assert record.levelno == logging.ERROR
    assert "in end_by_fault" in record.getMessage()
    assert record.process != os.getpid()


# warnings


def test_a_warning_reaches_the_program(make_ours):
    pool = make_ours(1)
    with warnings.catch_warnings():
        # To fork a program with threads is worth a warning of its own.
        warnings.simplefilter("always")
        pool.submit(abs, 1).result()
    with pytest.warns(UserWarning, match="of the task") as caught:
        pool.submit(record_tasks.warn, "of the task", UserWarning).result()
    assert caught[0].filename.endswith("record_tasks.py")
    with pytest.warns(record_tasks.OwnWarning, match="own") as caught:
        pool.submit(record_tasks.warn, "own", record_tasks.OwnWarning).result()
    assert type(caught[0].message) is record_tasks.OwnWarning


def test_the_filters_of_the_program_decide(make_default):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        make_default(1).submit(record_tasks.warn, "ignored", UserWarning).result()
    assert caught == []


def test_a_warning_that_the_program_makes_an_error_is_one_in_the_task(make_default):
    pool = make_default(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = pool.submit(record_tasks.warn, "an error", record_tasks.OwnWarning).exception()
    assert (type(error), str(error)) == (record_tasks.OwnWarning, "an error")


# prints


@pytest.mark.parametrize("context", ["None", 'get_context("fork")'])
def test_prints_are_not_torn_apart(context):
    out, errors = run(f"""
        import sys
        from multiprocessing import get_context
        def task(number):
            for line in range(200):
                # Some lines are longer than what the system writes to a pipe in one go.
                print("first", number, line, "x" * 9_000, sep="\\n", end="\\n")
                print(number, line, "y" * 100, file=sys.stderr)
        print("of the program")
        with raddle.ProcessPoolExecutor(3, mp_context={context}) as pool:
            list(pool.map(task, range(6)))
    """)
    first, _, out = out.partition("\n")
    assert first == "of the program"
    whole = {"first", "x" * 9_000, *map(str, range(200))}
    lines = out.splitlines()
    assert len(lines) == 6 * 200 * 4
    assert set(lines) <= whole
    assert sorted(errors.splitlines()) == sorted(
        f"{number} {line} {'y' * 100}" for number in range(6) for line in range(200)
    )


def test_what_was_printed_is_there_though_the_worker_is_killed():
    out, _ = run("""
        import os
        def task():
            print("the last words")
            print("and no more", end="", flush=True)
            os.kill(os.getpid(), 9)
        with raddle.ProcessPoolExecutor(1) as pool:
            pool.submit(task).exception()
    """)
    assert out == "the last words\nand no more"


def test_standard_streams_of_a_worker_are_streams(make_default):
    look = (
        "(sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.encoding, sys.stdout.writable(),"
        " sys.stdout.mode, sys.stdout.buffer.write(b''), sys.stdout is sys.__stdout__,"
        " sys.stdout.name)"
    )
    seen = make_default(1).submit(record_tasks.evaluate, look).result()
    assert seen == (1, 2, "utf-8", True, "w", 0, True, "<stdout>")


def run(source):
    """Run a program of its own: what it writes to its standard streams."""
    program = "import raddle\n" + textwrap.dedent(source)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr
