"""The worker process (start of a worker): it becomes what the program was, then serves its seat.

Cwd, environment, `sys.path` and `sys.argv` are those of the program when the pool was made. The
main thread runs the tasks, and leaves Ctrl-C to the program.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys

from . import _announced, _imports, _native
from ._setup import Setup, process_name

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from ._budget import Budget
    from ._launch_process import Handed

#: By what a worker asks its template for one of its own, and which worker it is that may.
template_socket = -1
worker_pid = 0

#: The exit code of a worker that could not go on, when it has said why.
FAILED = 1


def prepare() -> None:
    """Load, in the template, what every worker needs."""
    import atexit  # noqa: F401
    import faulthandler  # noqa: F401
    import resource  # noqa: F401

    from . import _main_globals, _pickling, _worker_streams  # noqa: F401

    catch_notes()
    compute_in_arena()


def compute_in_arena() -> None:
    """Have NumPy, once it is loaded, put large arrays of tasks where results are sent from."""

    def lend(_numpy: ModuleType) -> None:
        for package in ("numpy._core", "numpy.core"):
            module = sys.modules.get(f"{package}._multiarray_umath")
            table = getattr(module, "_ARRAY_API", None)
            if table is not None:
                _native.compute_in_arena(table)
                return

    _imports.after_import("numpy", lend)


def catch_notes(*, is_forked: bool = False) -> None:
    """Have log records and warnings go to the program; nothing is loaded for it before it has to.

    Parameters
    ----------
    is_forked : bool
        Whether this process is a fork of the program itself.
    """

    def follow(logging: ModuleType) -> None:
        from ._worker_notes import follow_logging

        follow_logging(logging, is_forked=is_forked)

    def show(warnings: ModuleType) -> None:
        # A program that shows them in a way of its own is asked again there.
        warnings.showwarning = _show_warning  # type: ignore[attr-defined]
        _announced.begin_with_filters(warnings)

    _imports.after_import("logging", follow)
    _imports.after_import("warnings", show)


def _show_warning(*args: Any, **kwargs: Any) -> None:
    from ._worker_notes import show_warning

    show_warning(*args, **kwargs)


def read_file(descriptor: int) -> bytes:
    """Read all of a file, wherever others of the same descriptor stand."""
    data = bytearray()
    while part := os.pread(descriptor, 1 << 26, len(data)):
        data += part
    return bytes(data)


def run_forked(
    given: list[int],
    template: int,
    socket: int,
    stack: int,
    seat: int,
    number: int,
    words: int,
    authkey: bytes,
) -> int:
    """Serve as a child of the template, until the end; the exit code."""
    global template_socket, worker_pid
    template_socket, worker_pid = socket, os.getpid()
    _native.die_with_parent(template)
    described, folder, out, error, mapping, bell, *arena = given
    setup = Setup(read_file(described))
    os.close(described)
    _take_place(folder, out, error)
    setup.take_over(seat)
    preload = sys.modules.get("raddle._preload")
    if preload is not None:
        preload.become_worker()
    _catch_faults(stack)
    _imports.become_worker(authkey, process_name(number), setup.program)
    sys.modules["__main__"] = type(sys)("__main__")
    initializer = _unpickled(setup.initializer)
    shared = (mapping, words, seat, bell, arena[0] if arena else -1)
    code = serve(*shared, initializer, setup.variables, by_value=True)
    return _leave(code)


def _unpickled(pickle: bytes | None) -> Callable[[], tuple[Any, ...]] | None:
    """Return what gives the initializer and its arguments, once it runs: that may fail."""
    if pickle is None:
        return None

    def load() -> tuple[Any, ...]:
        from _pickle import loads

        call: tuple[Any, ...] = loads(pickle)
        return call

    return load


def _take_place(folder: int, out: int, error: int) -> None:
    """Go where the program is, and write where it writes."""
    os.fchdir(folder)
    from ._worker_streams import write_whole_lines

    for descriptor, standard in ((out, 1), (error, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.close(folder)
    write_whole_lines()


def _catch_faults(stack: int) -> None:
    """Have the Python stack written down if the system ends this process for a fault."""
    import faulthandler

    faulthandler.enable(stack, all_threads=False)


def run_process(
    mapping: Handed,
    bell: Handed,
    arena: Handed | None,
    stack: Handed,
    program: int,
    seat: int,
    number: int,
    words: int,
    initializer: tuple[Any, ...] | None,
    variables: list[tuple[str, str]],
    by_value: bool,
    budget: Budget,
    is_forked: bool,
) -> None:
    """Serve as a process of `multiprocessing`, which sees to everything else."""
    _ignore_interrupts()
    _print_whole_lines(is_forked)
    _native.end_with(program)
    _catch_faults(stack.take())
    _differ()
    catch_notes(is_forked=is_forked)
    compute_in_arena()
    _keep_to(budget, seat)
    call = (lambda: initializer) if initializer else None
    arena_fd = -1 if arena is None else arena.take()
    shared = (mapping.take(), words, seat, bell.take(), arena_fd)
    code = serve(*shared, call, variables, by_value=by_value)
    if code:
        sys.exit(code)


def _print_whole_lines(is_forked: bool) -> None:
    """Have a process of `multiprocessing` print as the template's do."""
    from ._worker_streams import write_whole_lines

    write_whole_lines(is_forked=is_forked)


def _keep_to(budget: Budget, seat: int) -> None:
    """Keep a process of `multiprocessing` to its share of the cores."""
    from ._budget import limit_loaded

    before = dict(os.environ)
    environ = dict(before)
    budget.limit(environ)
    for name, value in environ.items():
        if before.get(name) != value:
            os.environ[name] = value
    if not budget.is_told(before):
        limit_loaded(budget.share)
    if budget.is_pinned:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, budget.cores_of(seat, cores))


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the program, which ends its workers as it likes."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])
    # An event loop of the program would be told of signals that are this process's.
    _signal.set_wakeup_fd(-1)


def _differ() -> None:
    """Draw other random numbers than the other workers; `random` sees to itself after a fork."""
    numpy_random = sys.modules.get("numpy.random")
    seed = getattr(numpy_random, "seed", None)
    if seed is not None:
        seed()


def serve(
    mapping: int,
    words: int,
    seat: int,
    bell: int,
    arena: int,
    initializer: Callable[[], tuple[Any, ...]] | None,
    variables: list[tuple[str, str]],
    *,
    by_value: bool,
) -> int:
    """Run tasks until the program has no more; the exit code."""
    start = _Start(initializer)
    try:
        context = start.find(variables)
        _native.serve(mapping, words, seat, bell, arena, start, by_value, context)
    except SystemExit as exit:
        # Of a handler of signals, which is how such a process is ended in order.
        return exit.code if isinstance(exit.code, int) else FAILED if exit.code else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return FAILED
    return FAILED if start.has_failed else 0


class _Start:
    """What runs before the first task: the initializer of the user's."""

    def __init__(self, initializer: Callable[[], tuple[Any, ...]] | None) -> None:
        self._initializer = initializer
        self._error: BaseException | None = None
        self.has_failed = False

    def find(self, variables: list[tuple[str, str]]) -> list[object]:
        """Import the context variables of these names; what fails is told when this is called."""
        try:
            return [find_variable(module, name) for module, name in variables]
        except BaseException as error:
            self._error = error
            return []

    def __call__(self) -> None:
        try:
            if self._error is not None:
                raise self._error
            if self._initializer is not None:
                call, args = self._initializer()
                call(*args)
        except BaseException:
            self.has_failed = True
            _log_failed_start()
            raise
        finally:
            # Nothing of it stays alive but what it kept itself.
            self._initializer = self._error = None


def find_variable(module: str, name: str) -> object:
    """Import a context variable by the name of its module and its own there."""
    from importlib import import_module

    return getattr(import_module(module), name)


def _log_failed_start() -> None:
    """Say it where the standard library's workers do."""
    from logging import getLogger

    getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)


def _leave(code: int) -> int:
    """Do what an interpreter does at its end, but for taking itself apart; the exit code."""
    import atexit

    threading = sys.modules.get("threading")
    steps = [] if threading is None else [threading._shutdown]
    steps.append(atexit._run_exitfuncs)
    steps += [stream.flush for stream in (sys.stdout, sys.stderr) if stream is not None]
    for step in steps:
        try:
            step()
        except BaseException:
            # What a handler did wrong it has said; the exit code of an interpreter says so too.
            code = code or FAILED
    return code
