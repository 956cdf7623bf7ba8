"""``as_completed`` gives each future when it is done: items 3, 1, 2 finish as 1, 2, 3."""

import concurrent.futures
import time
from types import ModuleType

import raddle
from lecture.measure import measure
from lecture.pages import Pages
from lecture.screen import Screen


def process(item: int) -> str:
    """Take half a second for each unit of the item."""
    time.sleep(item * 0.5)
    return f"took {item * 0.5} s"


def in_a_row(items: list[int]) -> list[str]:
    """Process in a loop."""
    return [f"item {item}: {process(item)}" for item in items]


def as_they_finish(library: ModuleType, items: list[int]) -> list[str]:
    """Process in threads and take each result when it is ready."""
    lines = []
    with library.ThreadPoolExecutor(max_workers=3) as executor:
        item_of = {executor.submit(process, item): item for item in items}
        for future in library.as_completed(item_of):
            lines.append(f"item {item_of[future]}: {future.result()}")
    return lines


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print what they did and took."""
    items = [3, 1, 2]
    screen.program(as_they_finish)
    loop = measure(in_a_row, items)
    standard = measure(as_they_finish, concurrent.futures, items)
    with screen.recorded("Three items, submitted as 3, 1, 2"):
        ours = measure(as_they_finish, raddle, items)
    screen.output(ours.value)
    screen.compare(loop.seconds, standard.seconds, ours.seconds)
    screen.conclude(
        "Submitted as 3, 1, 2, they are done as 1, 2, 3: the dict tells which item a future "
        "belongs to. Use as_completed to act on each result as soon as it is there."
    )
