"""What lives in a program's ``__main__``, or nowhere, travels: without a guard, however it runs."""

import textwrap

import process_tasks as tasks
import pytest
from process_programs import MarkedProgram, run_python

# No guard, functions and classes of the program itself, globals that change in between.
SCRIPT = """
import raddle

offset = 10

def square(number):
    return number * number

def shifted(number):
    return number + offset

class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x

    def moved(self, by):
        return Point(self.x + by)

pool = raddle.ProcessPoolExecutor(2)
print(list(pool.map(square, range(5))))
print(pool.submit(lambda number: number + 1, 3).result())
print(pool.submit(shifted, 1).result())
offset = 20
print(pool.submit(shifted, 1).result(), list(pool.map(shifted, [1, 2])))
print(pool.submit(Point(3).moved, 4).result() == Point(7))
print(list(pool.map(Point, [1, 2])) == [Point(1), Point(2)])
print(pool.submit(Point, x=3).result().moved(1).x)
pool.shutdown()
print("the end")
"""
OUTPUT = ["[0, 1, 4, 9, 16]", "4", "11", "21 [21, 22]", "True", "True", "4", "the end"]


def test_a_program_given_as_a_string_needs_no_guard():
    assert run_python("-c", SCRIPT) == OUTPUT


def test_a_program_from_standard_input_needs_no_guard():
    assert run_python("-", input=SCRIPT) == OUTPUT


def test_a_script_needs_no_guard(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    assert run_python(str(tmp_path / "script.py")) == OUTPUT


def test_a_module_run_as_a_program_needs_no_guard(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "__main__.py").write_text(SCRIPT)
    assert run_python("-m", "package", folder=tmp_path) == OUTPUT


def test_a_conversation_needs_no_guard():
    # What is typed at the prompt: definitions end with an empty line.
    typed = "\n".join(
        line if line.startswith(" ") or not line else "\n" + line
        for line in SCRIPT.strip().splitlines()
    )
    blocks = typed.replace("\n\n\n    def", "\n    def").replace("\n\n    def", "\n    def")
    assert run_python("-i", "-q", input="import sys; sys.ps1 = sys.ps2 = ''\n" + blocks) == OUTPUT


def test_a_notebook_needs_no_guard(tmp_path):
    # A kernel runs cells in a module __main__ that has no file, one after the other.
    kernel = textwrap.dedent("""
        import sys, types
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        for number, cell in enumerate(open(sys.argv[1]).read().split("\\n\\n")):
            exec(compile(cell, f"<cell {number}>", "exec"), main.__dict__)
    """)
    cells = SCRIPT.replace("\n\n    def", "\n    def")
    (tmp_path / "cells").write_text(cells)
    (tmp_path / "kernel.py").write_text(kernel)
    assert run_python(str(tmp_path / "kernel.py"), str(tmp_path / "cells")) == OUTPUT


def test_a_program_with_a_guard_is_not_run_by_its_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('imported')\nif __name__ == '__main__':\n"
        "    import raddle\n    with raddle.ProcessPoolExecutor(2) as pool:\n"
        "        print(list(pool.map(abs, [-1, -2])))\n"
    )
    assert run_python(str(script)) == ["imported", "[1, 2]"]


def test_modules_beside_a_script_can_be_imported_by_its_workers(tmp_path):
    (tmp_path / "beside.py").write_text("def triple(number):\n    return 3 * number\n")
    (tmp_path / "script.py").write_text(
        "import beside, raddle\nwith raddle.ProcessPoolExecutor(1) as pool:\n"
        "    print(list(pool.map(beside.triple, [1, 2])))\n"
    )
    assert run_python(str(tmp_path / "script.py")) == ["[3, 6]"]


def test_what_a_task_prints_comes_out(tmp_path):
    source = "import raddle\nwith raddle.ProcessPoolExecutor(1) as pool:\n    {}\n"
    assert run_python("-c", source.format("pool.submit(print, 'from a task').result()")) == [
        "from a task"
    ]


def test_a_worker_that_dies_is_replaced_in_a_program_without_a_guard():
    source = """
        import os
        def end():
            os._exit(3)
        def square(number):
            return number * number
        with futures.ProcessPoolExecutor(2) as pool:
            bad = pool.submit(end)
            say(list(pool.map(square, range(4))))
            say(type(bad.exception()).__name__)
    """
    with MarkedProgram(source) as program:
        assert program.wait() == 0, program.errors
        assert (program.output, program.errors) == (["[0, 1, 4, 9]", "WorkerDied"], [])


# by value, within the test's own process


def make_adder(amount):
    def add(number):
        return number + amount

    return add


def test_closures_lambdas_and_local_classes_travel(make_default):
    pool = make_default(1)

    class Local:
        def __init__(self, value):
            self.value = value

        def read(self):
            return self.value

    assert pool.submit(make_adder(3), 4).result() == 7
    assert list(pool.map(lambda n: n * 2, range(5))) == [0, 2, 4, 6, 8]
    assert pool.submit(Local(5).read).result() == 5
    assert pool.submit(Local, 6).result().read() == 6
    assert pool.submit(tasks.identity, make_adder(1)).result()(1) == 2


def test_a_changed_closure_is_seen_at_the_next_submit(make_default):
    pool, number = make_default(1), 1

    def read(_value=None):
        return number

    assert pool.submit(read).result() == 1
    number = 2
    assert pool.submit(read).result() == 2
    number = 3
    assert list(pool.map(read, range(3))) == [3] * 3


def test_a_function_of_a_module_made_by_hand_travels(make_default):
    import sys
    import types

    module = types.ModuleType("made_by_hand")
    sys.modules["made_by_hand"] = module
    try:
        exec("factor = 3\ndef times(number):\n    return factor * number\n", module.__dict__)
        pool = make_default(1)
        assert pool.submit(module.times, 4).result() == 12
        module.factor = 5
        assert pool.submit(module.times, 4).result() == 20
    finally:
        del sys.modules["made_by_hand"]


def test_a_function_that_was_replaced_in_its_module_runs_as_it_is(make_default, monkeypatch):
    original = tasks.square
    monkeypatch.setattr(tasks, "square", lambda number: -number)
    pool = make_default(1)
    assert pool.submit(tasks.square, 3).result() == -3, "what the name means now"
    assert pool.submit(original, 3).result() == 9, "what was submitted"


def test_a_generator_cannot_travel_and_its_future_says_so(make_default):
    pool = make_default(1)
    future = pool.submit(tasks.identity, (n for n in range(3)))
    assert isinstance(future.exception(), TypeError)
    assert "generator" in str(future.exception())
    assert pool.submit(tasks.square, 3).result() == 9


@pytest.mark.parametrize("function", [tasks.square, lambda number: number * number])
def test_a_function_is_not_pickled_for_each_item_of_a_map(make_default, function):
    class Counted:
        pickled = 0

        def __call__(self, number):
            return function(number)

        def __reduce__(self):
            Counted.pickled += 1
            return make_caller, (function,)

    assert list(make_default(2).map(Counted(), range(50))) == [n * n for n in range(50)]
    assert Counted.pickled <= 2, "once by each pickler at most, not for each item"


def make_caller(function):
    return function
