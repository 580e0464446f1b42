"""Work that is done ahead: the next item is made while one is used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def made_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Give the same items, each made in another thread while the one before it is used.

    >>> list(made_ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(max_workers=1) as worker:
        coming = worker.submit(_next, items)
        while found := coming.result():
            coming = worker.submit(_next, items)
            yield found[0]


def _next(items: Iterator[Item]) -> tuple[()] | tuple[Item]:
    for item in items:
        return (item,)
    return ()
