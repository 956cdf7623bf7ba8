#!/usr/bin/env python3
"""Build, check, test and measure raddle: ``python dev.py COMMAND``.

Every command first makes what it needs: a private environment beside this file (``.venv``;
another Python gets its own, ``.venv-3.13``), the pinned tools in it, and the extension built
in release mode. What is there already and unchanged is not made again. Arguments after ``--``
go on to the tool that the command runs.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - older Pythons shall read this line, not a traceback
    sys.exit(
        "raddle needs Python 3.10 or newer, and this is Python {}.{} ({}).\n"
        "Install a newer one and run this with it, for example: python3.13 {}".format(
            *sys.version_info[:2], sys.executable, sys.argv[0]
        )
    )

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = ("requirements-dev.txt", "tests/python/requirements.txt")
#: The peers of a benchmark, which only those get who ask for it.
PEERS = {
    "fetch": "benchmarks/requirements.txt",
    "processes": "benchmarks/requirements-processes.txt",
    "frames": "benchmarks/requirements-frames.txt",
}
#: The usual runs of CPython's own tests: all of them; those of process pools that break as theirs
#: do; then those of threads and futures with Future and functions of ours.
CONFORMANCE: tuple[list[str], ...] = (
    [],
    ["--on-crash", "break", "--only", "ProcessPool"],
    ["--functions", "--only", "test_future"],
    ["--functions", "--only", "ThreadPool"],
)
#: Exit code for "the Python that was asked for is not on this machine" (EX_UNAVAILABLE).
NO_SUCH_PYTHON = 69

PROBE = """
import importlib.util, json, os, sys
try:
    suite = importlib.util.find_spec("test.test_concurrent_futures")
except ImportError:
    suite = None
python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
print(json.dumps([python, list(sys.version_info[:3]),
                  bool(suite and suite.submodule_search_locations)]))
"""


def fail(message: str, code: int = 1) -> NoReturn:
    """End with a message for the reader and an exit code for the caller."""
    print("dev.py: " + message, file=sys.stderr, flush=True)
    sys.exit(code)


def run(*command: object, env: dict[str, str] | None = None) -> None:
    """Announce one step, run it from the root, and end with its exit code if it fails."""
    words = [str(word) for word in command]
    shown = shlex.join(word.replace(f"{ROOT}{os.sep}", "") for word in words)
    print(f"==> {shown}", flush=True)
    try:
        code = subprocess.call(words, cwd=ROOT, env=env)
    except FileNotFoundError:
        fail(f"there is no program {words[0]!r} on this machine, and this step needs it")
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        fail(f"the step above {how}: {shown}", 128 - code if code < 0 else code)


# --- Pythons ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interpreter:
    """A Python that runs: where it is, what version, whether CPython's own tests came with it."""

    path: str
    version: tuple[int, int, int]
    has_suite: bool

    @property
    def short(self) -> str:
        """The version as people say it, such as ``3.13``."""
        return "{}.{}".format(*self.version)


def probe(path: str) -> Interpreter | None:
    """Ask a Python what it is; None if it does not run (a version manager's shim may not)."""
    try:
        answer = subprocess.run([path, "-I", "-c", PROBE], capture_output=True, text=True)
        executable, version, has_suite = json.loads(answer.stdout)
    except (OSError, ValueError):
        return None
    return Interpreter(executable, tuple(version), has_suite)


def find_python(wanted: str) -> Interpreter | None:
    """Find a Python by its path, by its command, or by a version such as ``3.13``."""
    candidates = [wanted]
    if re.fullmatch(r"3\.\d+(\.\d+)?", wanted):
        candidates = ["python" + wanted]
        if shutil.which("pyenv"):
            prefix = subprocess.run(["pyenv", "prefix", wanted], capture_output=True, text=True)
            candidates += [f"{line}/bin/python" for line in prefix.stdout.splitlines()]
    found = (probe(candidate) for candidate in candidates)
    return next((python for python in found if python), None)


def this_python() -> Interpreter:
    """Return the Python that runs this program."""
    python = probe(sys.executable)
    if python is None:
        fail(f"{sys.executable} does not run a program: is this Python installed completely?")
    return python


def python_with_suite(first: Interpreter) -> Interpreter | None:
    """Find a Python 3.12 or newer that has CPython's own tests, beginning with the given one."""
    others = (find_python(version) for version in ("3.13", "3.12"))
    candidates = (python for python in (first, *others) if python)
    return next((p for p in candidates if p.has_suite and p.version >= (3, 12)), None)


# --- The private environment -----------------------------------------------------------------


@dataclass(frozen=True)
class Environment:
    """The private environment of one Python: its packages, and the extension built for it."""

    interpreter: Interpreter
    folder: Path

    @property
    def python(self) -> Path:
        """The environment's own Python."""
        return self.folder / "bin" / "python"

    def variables(self, **more: str) -> dict[str, str]:
        """Return the environment variables of a program that runs in here."""
        unwanted = ("PYTHONHOME", "PYTHONPATH", "CONDA_PREFIX")
        kept = {name: value for name, value in os.environ.items() if name not in unwanted}
        path = f"{self.folder / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
        mine = {"VIRTUAL_ENV": str(self.folder), "PYO3_PYTHON": str(self.python), "PATH": path}
        return {**kept, **mine, **more}

    def run(self, *command: object, **variables: str) -> None:
        """Run one step in here."""
        run(*command, env=self.variables(**variables))

    def read(self, key: str) -> str:
        """Return what was written down about an earlier set-up, or an empty text."""
        note = self.folder / f"raddle-{key}"
        return note.read_text() if note.exists() else ""

    def write(self, key: str, value: str) -> None:
        """Write down what was set up, so that it is not set up again."""
        (self.folder / f"raddle-{key}").write_text(value)


def environment(interpreter: Interpreter, *, default: bool) -> Environment:
    """Return the environment of a Python, making it if it is missing or its Python has changed."""
    identity = f"{interpreter.path} {interpreter.version}"
    env = Environment(interpreter, ROOT / ".venv")
    old = re.search(r"\((3, \d+)", env.read("python"))
    if not default or (old and old[1] != "{}, {}".format(*interpreter.version)):
        env = Environment(interpreter, ROOT / f".venv-{interpreter.short}")
    runs = env.python.exists() and probe(str(env.python)) is not None
    if runs and env.read("python") == identity:
        return env
    if env.folder.exists() and not env.read("python"):
        fail(f"{env.folder} is not an environment that dev.py made: move it away and try again")
    print(f"==> making {env.folder.name} with Python {interpreter.short}", flush=True)
    made = False
    try:
        command = [interpreter.path, "-m", "venv", "--clear", str(env.folder)]
        made = subprocess.call(command) == 0
    finally:
        if not made:
            shutil.rmtree(env.folder, ignore_errors=True)
    if not made:
        fail("Python's module venv failed, see above. On Debian and Ubuntu: install python3-venv")
    env.write("python", identity)
    return env


def pinned(only: tuple[str, ...] = (), more: tuple[str, ...] = ()) -> list[str]:
    """Return the pinned packages of the requirements files, or those of the given names.

    ``more`` names further requirements files.
    """
    files = (*REQUIREMENTS, *more)
    lines = [line for name in files for line in (ROOT / name).read_text().splitlines()]
    packages = [line.split("#")[0].strip() for line in lines]
    return [p for p in packages if p and (not only or re.split(r"\W", p)[0] in only)]


def install(env: Environment, packages: list[str]) -> None:
    """Install the packages in just these versions, unless they are there already."""
    if not set(packages) <= set(env.read("packages").splitlines()):
        pip = (env.python, "-m", "pip", "--disable-pip-version-check", "--quiet")
        env.run(*pip, "install", *packages)
        env.write("packages", "\n".join(packages))


# --- The build -------------------------------------------------------------------------------


def sources() -> str:
    """Tell one state of what the extension is built from (python/ is used where it stands)."""
    files = [ROOT / name for name in ("Cargo.toml", "Cargo.lock", "pyproject.toml")]
    files += [path for path in (ROOT / "crates").rglob("*") if path.suffix in (".rs", ".toml")]
    digest = hashlib.sha256()
    for path in sorted(filter(Path.is_file, files)):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def product(env: Environment) -> str:
    """Tell one state of the extension that was built for a Python."""
    tags = ("cpython-{}{}-".format(*env.interpreter.version), ".abi3.")
    files = sorted((ROOT / "python" / "raddle").glob("_native*.so"))
    states = [(path.name, path.stat()) for path in files if any(tag in path.name for tag in tags)]
    return " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in states)


def check_toolchain() -> None:
    """End with what to install if Rust or a C linker is missing or too old."""
    if not shutil.which("cargo") or not shutil.which("rustc"):
        fail("no Rust toolchain found (cargo and rustc): install one, for example with rustup")
    manifest = (ROOT / "Cargo.toml").read_text()
    needed = re.search(r'^rust-version\s*=\s*"(\d+)\.(\d+)', manifest, re.MULTILINE)
    answer = subprocess.run(["rustc", "--version"], cwd=ROOT, capture_output=True, text=True)
    found = re.match(r"rustc (\d+)\.(\d+)", answer.stdout)
    if not found:
        fail(f"rustc does not run: {answer.stderr.strip() or answer.stdout.strip()}")
    if needed and tuple(map(int, found.groups())) < tuple(map(int, needed.groups())):
        here, least = ".".join(found.groups()), ".".join(needed.groups())
        fail(f"raddle needs Rust {least} or newer, and this is {here}: try `rustup update`")
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        fail("no C linker found (cc): install gcc or clang, on Debian and Ubuntu build-essential")


def build(env: Environment, more: list[str]) -> None:
    """Build the extension in release mode, if its sources or the built file have changed."""
    state = sources()
    if not more and product(env) and env.read("build") == f"{state} {product(env)}":
        return
    check_toolchain()
    env.run(env.python, "-m", "maturin", "develop", "--release", "--quiet", *more)
    # As installers do: where no byte code is written at the first import, each start makes it anew.
    env.run(env.python, "-m", "compileall", "-q", "python/raddle")
    env.write("build", f"{state} {product(env)}")


def prepare(interpreter: Interpreter, *, default: bool, only: tuple[str, ...] = ()) -> Environment:
    """Make everything that a command needs: environment, packages (all or some), extension."""
    env = environment(interpreter, default=default)
    install(env, pinned(only))
    build(env, [])
    return env


# --- The commands ----------------------------------------------------------------------------


def test(env: Environment, more: list[str], *, skip_rust: bool) -> None:
    """Run the engine's tests, its models under loom, the Python tests and CPython's own."""
    if not skip_rust:
        env.run("cargo", "test", "--package", "raddle", "--package", "raddle-fetch")
        check_models(env)
    env.run(env.python, "-m", "pytest", "-c", "pytest.ini", *(more or ["tests"]))
    if env.interpreter.has_suite:
        conformance(env, [])
    else:
        print(
            f"==> CPython's own suite is left out: Python {env.interpreter.short} came without the "
            "package test.test_concurrent_futures.\n"
            "    `python dev.py conformance` looks for a Python that has it.",
            flush=True,
        )


def check_models(env: Environment) -> None:
    """Run the engine's models under loom, which tries every order of their threads' steps."""
    loom = {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": str(ROOT / "target" / "loom")}
    command = ("cargo", "test", "--package", "raddle", "--release", "--lib", "models::")
    env.run(*command, **loom)
    # The same once more as a list: a filter that fits no test passes, and must not here.
    listed = [*command, "--quiet", "--", "--list"]
    found = subprocess.run(
        listed, cwd=ROOT, env=env.variables(**loom), capture_output=True, text=True
    )
    if ": test" not in found.stdout:
        fail("no model was found in the engine: see crates/raddle/src/models.rs")


def lint(env: Environment, more: list[str]) -> None:
    """Check formatting, style, types, documentation and what the engine depends on."""
    run("cargo", "fmt", "--all", "--check")
    strict = ("--", "-D", "warnings")
    env.run("cargo", "clippy", "--locked", "--workspace", "--all-targets", *strict)
    crates = ("--package", "raddle", "--package", "raddle-fetch")
    env.run("cargo", "doc", *crates, "--no-deps", RUSTDOCFLAGS="-D warnings")
    check_engine_is_plain_rust()
    # All of `cargo publish --dry-run` that needs no registry: packages are made, unpacked, built.
    env.run("cargo", "package", *crates, "--allow-dirty", "--offline", "--quiet")
    env.run(env.python, "-m", "ruff", "check", *(more or ["."]))
    env.run(env.python, "-m", "ruff", "format", "--check", *(more or ["."]))
    env.run(env.python, "-m", "mypy")


def check_engine_is_plain_rust() -> None:
    """End if a crate of the engine depends on pyo3, directly or through another crate."""
    for crate in ("raddle", "raddle-fetch"):
        command = ("cargo", "tree", "--package", crate, "--edges", "all", "--prefix", "none")
        print(f"==> {' '.join(command)}  (must not name pyo3)", flush=True)
        tree = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if not tree.stdout.startswith(f"{crate} "):
            fail(f"cargo tree did not list the engine's dependencies: {tree.stderr.strip()}")
        if "pyo3" in tree.stdout:
            fail(f"the engine (crates/{crate}) needs pyo3: what needs it goes to raddle-python")


def conformance(env: Environment, more: list[str]) -> None:
    """Run CPython's own tests of concurrent.futures against raddle."""
    folder = ROOT / "tests" / "conformance"
    suite = (env.python, folder / "run_cpython_suite.py", "raddle")
    known = ["--known", folder / "known_differences.txt"]
    unbroken = [*known, "--known", folder / "known_differences_by_default.txt"]
    for selection in [more] if more else CONFORMANCE:
        env.run(*suite, *selection, *(known if "--on-crash" in selection else unbroken))


def bench(env: Environment, more: list[str]) -> None:
    """Measure, with the peers installed of what is measured."""
    asked = {word.partition("-")[0] for word in more}
    peers = tuple(path for name, path in PEERS.items() if name in asked)
    install(env, list(dict.fromkeys(pinned(more=peers))))
    env.run(env.python, "-m", "benchmarks", *more)


def docs(env: Environment, more: list[str], *, skip_examples: bool) -> None:
    """Build the site and the engine's own documentation, and run the programs of the pages."""
    install(env, list(dict.fromkeys(pinned(more=("docs/requirements.txt",)))))
    site, trees = ROOT / "target" / "docs", ROOT / "target" / "docs-trees"
    # Warnings are errors; -E reads all pages again, so that none is passed over as unchanged.
    strict = ("-E", "-W", "--keep-going", "--quiet")
    env.run(env.python, "-m", "sphinx", *strict, "-d", trees, *more, "docs", site)
    crates = ("--package", "raddle", "--package", "raddle-fetch")
    env.run("cargo", "doc", *crates, "--no-deps", RUSTDOCFLAGS="-D warnings")
    if not skip_examples:
        env.run(env.python, "-m", "pytest", "-c", "pytest.ini", "-q", "tests/docs")
    print(f"==> open {(site / 'index.html').relative_to(ROOT)}", flush=True)


def arguments(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__.splitlines()[0])
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--python", help="a path, a command or a version such as 3.13")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[shared])

    command("build", "build the extension; -- ARGS go to maturin develop")
    tests = command("test", "run every test; -- ARGS go to pytest, in place of its folder")
    tests.add_argument("--skip-rust", action="store_true", help="run only those that use Python")
    command("lint", "check style, types, documentation; -- PATHS go to ruff")
    pages = command("docs", "build the documentation in target/docs; -- ARGS go to Sphinx")
    pages.add_argument("--skip-examples", action="store_true", help="do not run its programs")
    command("bench", "measure against the standard library; -- ARGS go to benchmarks")
    command("conformance", "run CPython's own tests; -- ARGS replace the usual runs")
    return parser.parse_args(words)


def main() -> None:
    """Do what the command line asks for."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    options, more = arguments(words[:cut]), words[cut + 1 :]
    interpreter = find_python(options.python) if options.python else this_python()
    if interpreter is None or interpreter.version < (3, 10):
        why = "was not found" if interpreter is None else "is older than 3.10"
        fail(f"the Python asked for, {options.python}, {why}", NO_SUCH_PYTHON)
    default = not options.python
    if options.command == "conformance":
        capable = python_with_suite(interpreter)
        if capable is None:
            fail(
                "no Python 3.12 or newer with CPython's own tests (test.test_concurrent_futures) "
                "found: give one with --python",
                NO_SUCH_PYTHON,
            )
        default, interpreter = default and capable == interpreter, capable
    env = prepare(interpreter, default=default)
    if options.command == "build":
        build(env, more)
    elif options.command == "test":
        test(env, more, skip_rust=options.skip_rust)
    elif options.command == "docs":
        docs(env, more, skip_examples=options.skip_examples)
    elif options.command == "bench":
        bench(env, more)
    else:
        {"lint": lint, "conformance": conformance}[options.command](env, more)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
