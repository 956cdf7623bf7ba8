"""The package as it is installed: its types, its stub, its examples."""

import ast
import doctest
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest


def modules_of(package):
    names = [package.__name__]
    names += [f"{package.__name__}.{m.name}" for m in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(name) for name in sorted(names)]


@pytest.fixture
def directory(raddle):
    return Path(raddle.__file__).parent


def test_the_package_says_that_it_is_typed(directory):
    assert (directory / "py.typed").exists()


def is_native(thing):
    return isinstance(thing, type) and thing.__module__ == "raddle"


def test_every_example_in_a_docstring_runs(raddle):
    finder, examples = doctest.DocTestFinder(), 0
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for module in modules_of(raddle):
        for test in finder.find(module, module.__name__):
            examples += len(test.examples)
            runner.run(test, clear_globs=True)
    # The finder passes over classes that are written in another language.
    native = [name for name in raddle.__all__ if is_native(getattr(raddle, name))]
    assert native, "there are such classes"
    for name in native:
        tests = finder.find(getattr(raddle, name), name, module=False)
        assert any(test.examples for test in tests), name
        for test in tests:
            runner.run(test, clear_globs=True)
    assert examples >= 10, "there are examples to run"
    assert runner.failures == 0


def test_every_public_class_and_function_has_an_example(raddle):
    finder = doctest.DocTestFinder()
    shared = ("Error", "Timeout", "BrokenThreadPool", "BrokenProcessPool", "BrokenExecutor")
    checked = [
        name
        for name in raddle.__all__
        if callable(getattr(raddle, name)) and not name.endswith(shared)
    ]
    assert len(checked) >= 6
    for name in checked:
        tests = finder.find(getattr(raddle, name), name)
        assert any(test.examples for test in tests), f"{name} has no example"


def names_in(node):
    """Names that a class or module of the stub declares, with the names inside its classes."""
    for item in node.body:
        if isinstance(item, (ast.ClassDef, ast.FunctionDef)):
            yield item.name, item
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id, item


def test_what_the_stub_declares_exists(directory):
    native = importlib.import_module("raddle._native")
    stub = ast.parse((directory / "_native.pyi").read_text())
    found = 0
    for name, node in names_in(stub):
        if isinstance(node, ast.ClassDef) and name.startswith("_"):
            continue  # protocols for the checker only
        thing = getattr(native, name)
        found += 1
        if isinstance(node, ast.ClassDef):
            for member, _ in names_in(node):
                if member == "__buffer__" and sys.version_info < (3, 12):
                    continue  # objects of C have it from 3.12 on; their memory is there before
                assert hasattr(thing, member), f"{name}.{member}"
                found += 1
    assert found >= 10


def test_what_the_extension_offers_is_in_the_stub(directory):
    native = importlib.import_module("raddle._native")
    stub = ast.parse((directory / "_native.pyi").read_text())
    declared = {name for name, _ in names_in(stub)}
    public = {name for name in vars(native) if not name.startswith("_")}
    assert public
    assert public <= declared
