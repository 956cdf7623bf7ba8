"""Share an account between threads, and see a deadlock named: python examples/locks.py.

A lock tells how it was used, a thread gives its function's result, and threads that wait for each
other get a report in place of a hang.
"""

import threading

from raddle import Counter, DeadlockError, Lock, Thread


class Account:
    """A balance, and the lock that keeps it right."""

    def __init__(self, name: str) -> None:
        self.lock = Lock(name=name)
        self.balance = 0

    def deposit(self, amount: int) -> None:
        """Add to the balance."""
        with self.lock:
            self.balance += amount


def save(account: Account, deposits: Counter) -> int:
    """Deposit a hundred times, and return what was deposited."""
    for _ in range(100):
        account.deposit(1)
        deposits.add()
    return 100


def transfer(source: Account, target: Account, both: threading.Barrier) -> str:
    """Move money, taking the locks in an order that depends on the direction: a mistake."""
    with source.lock:
        both.wait()
        with target.lock:
            source.balance, target.balance = source.balance - 1, target.balance + 1
            return f"moved 1 from {source.lock.name} to {target.lock.name}"


def main() -> None:
    """Save in four threads; then transfer in both directions at the same time."""
    savings, current, deposits = Account("savings"), Account("current"), Counter()
    savers = [Thread(target=save, args=(savings, deposits)) for _ in range(4)]
    for thread in savers:
        thread.start()
    assert sum(thread.result() for thread in savers) == 400
    print(f"balance: {savings.balance}, in {deposits.value} deposits")

    both = threading.Barrier(2)
    pairs = ((savings, current), (current, savings))
    movers = [Thread(target=transfer, args=(*pair, both)) for pair in pairs]
    for thread in movers:
        thread.start()
    for thread in sorted(movers, key=was_reported, reverse=True):
        try:
            print(thread.result())
        except DeadlockError as error:
            print(f"DeadlockError: {error}")

    statistics = savings.lock.statistics()
    print(f"the lock was taken {statistics.acquisitions} times")


def was_reported(thread: Thread) -> bool:
    """Wait for a thread; whether it was the one that got the report."""
    try:
        thread.result()
    except DeadlockError:
        return True
    return False


if __name__ == "__main__":
    main()
