"""Count the lines of the standard library's modules in threads: python examples/threads.py.

The program is one for ``concurrent.futures`` with one import changed.
"""

import sysconfig
from pathlib import Path

from raddle import ThreadPoolExecutor, as_completed


def count_lines(path: Path) -> int:
    """Count the lines of one file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def main() -> None:
    """Count with ``map``, then with ``submit`` and ``as_completed``."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    modules = sorted(folder.glob("*.py"))
    with ThreadPoolExecutor(max_workers=4) as executor:
        # In order of the input, whichever is ready first.
        counts = list(executor.map(count_lines, modules))
        print(f"{len(modules)} modules have {sum(counts):,} lines")

        # As they become ready; the dict tells which module a future belongs to.
        module_of = {executor.submit(count_lines, path): path for path in modules[:3]}
        for future in as_completed(module_of):
            print(f"{module_of[future].name}: {future.result()} lines")


if __name__ == "__main__":
    main()
