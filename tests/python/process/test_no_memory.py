"""Errors where there is no memory: what they tell, and that the pool goes on."""

from __future__ import annotations

import re

from process_programs import run_python

PROGRAM = """
import concurrent.futures.process  # What an error needs is there before memory is short.
import resource
import raddle
from raddle import _native

SIZE = 1 << 27
LIMIT = 1 << 20
data = bytes(SIZE)

def leave(share):
    "Have the process get no more than so many times the size of the data."
    pages = int(open("/proc/self/statm").read().split()[0])
    most = pages * resource.getpagesize() + int(SIZE * share)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))

def unlimited():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def many():
    data = bytes(SIZE)
    leave(0.5)
    return [data]

def of_bytes():
    return bytes(SIZE)

def of_text():
    return "x" * SIZE

def told(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__} {error}"

if __name__ == "__main__":
    with raddle.ProcessPoolExecutor(1) as pool:
        assert pool.submit(len, b"warm").result() == 4
        for large in (of_bytes, of_text):
            future = pool.submit(large)
            raddle.wait([future])
            leave(0.9)
            error = told(future.result)
            unlimited()
            print(error)
            del future
        _native.limit_arena(LIMIT)
        for share in (0.5, 1.75):
            leave(share)
            error = pool.submit(len, data).exception()
            unlimited()
            print(type(error).__name__, error)
        error = pool.submit(many).exception()
        print(type(error).__name__, error)
        assert pool.submit(len, b"again").result() == 5
"""


def test_a_memory_error_of_a_task_or_a_result_names_sizes(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    *rebuilt, pickle, message, result = run_python(str(file))
    size = 1 << 27
    assert len(rebuilt) == 2
    for one in rebuilt:
        assert re.match(
            f"UnpicklingFailed .* MemoryError: there is no memory for {size} bytes of a task or a "
            rf"result.*; of shared memory \d+ bytes are in use, of at most \d+: ",
            one,
        )
    pickled = f"MemoryError there is no memory to pickle a task or a result with {size} bytes of "
    arena = rf"; of shared memory \d+ bytes are in use, of at most {1 << 20}: "
    assert re.match(f"{pickled}.*{arena}", pickle)
    # The pickle is had, and the message with it not; or that neither, as the system has it.
    wanted = re.match(rf"MemoryError there is no memory .* (\d+) bytes of .*{arena}", message)
    assert wanted is not None and int(wanted[1]) >= size
    # A worker does not know what there is of the program's memory.
    assert result.startswith(pickled) and "shared" not in result
