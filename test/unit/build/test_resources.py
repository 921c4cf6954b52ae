import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlimages.build.resources import (
    GROWTH,
    MEMORY_PER_BUILD,
    MEMORY_PER_CHECK,
    UNKNOWN_IMAGE,
    DiskFullError,
    ResourceBudget,
    expected_disk,
)
from rlimages.system.process import Stop

GB = 10**9


@pytest.fixture
def start():
    """Enter a context in a thread of its own. Return a function that waits until it was entered."""
    done, threads = threading.Event(), []

    def start(reserve: Callable) -> Callable[[float], bool]:
        inside = threading.Event()

        def go() -> None:
            with reserve():
                inside.set()
                done.wait(5)

        threads.append(threading.Thread(target=go))
        threads[-1].start()
        return inside.wait

    yield start
    done.set()
    for thread in threads:
        thread.join()


def test_more_checks_than_builds_fit_into_the_same_memory(start) -> None:
    budget = ResourceBudget(memory=2 * MEMORY_PER_CHECK)
    with budget.reserve_check():
        assert not start(lambda: budget.reserve_build(0))(0.1)
        assert start(budget.reserve_check)(2)
    assert MEMORY_PER_BUILD > MEMORY_PER_CHECK


def test_a_check_that_does_not_fit_into_memory_waits_for_the_build(start) -> None:
    waits = []
    budget = ResourceBudget(memory=MEMORY_PER_BUILD)
    with budget.reserve_build(0):
        inside = start(lambda: budget.reserve_check(waits.append))
        assert not inside(0.1)
    assert inside(2)
    assert waits == ["waits for memory"]


def test_a_build_starts_with_too_little_memory_if_nothing_else_runs() -> None:
    with ResourceBudget(memory=1).reserve_build(0):
        pass


def test_memory_is_not_counted_if_the_user_chose_the_number_of_jobs() -> None:
    budget = ResourceBudget(memory=None)
    with budget.reserve_build(0), budget.reserve_build(0), budget.reserve_build(0):
        pass


def test_a_build_without_enough_disk_fails_with_the_needed_and_free_sizes_and_a_remedy() -> None:
    budget = ResourceBudget(free_disk=lambda: 6 * GB, disk_floor=5 * GB)
    message = r"7 GB are needed.*6 GB are free.*docker system df.*--disk-floor"
    with pytest.raises(DiskFullError, match=message), budget.reserve_build(2 * GB):
        pass


def test_a_build_waits_for_the_disk_that_running_builds_have_reserved(start) -> None:
    budget = ResourceBudget(free_disk=lambda: 9 * GB, disk_floor=5 * GB)
    waits = []
    with budget.reserve_build(2 * GB):
        inside = start(lambda: budget.reserve_build(3 * GB, waits.append))
        assert not inside(0.1)
    assert inside(2)
    assert waits == ["waits for disk: 10 GB are needed, 9 GB are free"]


def test_a_check_needs_no_disk() -> None:
    with ResourceBudget(free_disk=lambda: 0).reserve_check():
        pass


def test_a_build_starts_if_the_free_disk_is_unknown() -> None:
    with ResourceBudget(free_disk=lambda: None).reserve_build(10**15):
        pass


def test_disk_is_freed_in_the_order_of_the_cleanups_until_it_is_enough() -> None:
    free, asked = [4 * GB], []

    def cleanup(name: str, gain: int) -> Callable[[int], list[str]]:
        def clean(wanted: int) -> list[str]:
            asked.append((name, wanted))
            free[0] += gain
            return [f"removed {name}"]

        return clean

    cleanups = (cleanup("untagged images", GB), cleanup("cache", 3 * GB), cleanup("more", GB))
    budget = ResourceBudget(free_disk=lambda: free[0], disk_floor=5 * GB, cleanups=cleanups)
    with budget.reserve_build(2 * GB):
        assert asked == [("untagged images", 3 * GB), ("cache", 2 * GB)]
    assert budget.notes == ["removed untagged images", "removed cache"]


def test_disk_is_freed_once_while_other_builds_run_and_again_after_they_ended(start) -> None:
    asked = []
    budget = ResourceBudget(
        free_disk=lambda: 8 * GB, disk_floor=5 * GB, cleanups=(lambda wanted: asked.append(wanted) or [],)
    )
    failed = threading.Event()

    def try_it() -> None:
        try:
            with budget.reserve_build(4 * GB):
                pass
        except DiskFullError:
            failed.set()

    with budget.reserve_build(GB):
        thread = threading.Thread(target=try_it)
        thread.start()
        assert not failed.wait(0.25)
        assert asked == [2 * GB]
    assert failed.wait(2)
    thread.join()
    assert asked == [2 * GB, GB]


def test_nothing_waits_after_the_run_was_stopped() -> None:
    stop = Stop()
    stop.set()
    with ResourceBudget(free_disk=lambda: 0, stop=stop).reserve_build(GB):
        pass


def test_a_failed_build_releases_its_memory_and_disk() -> None:
    budget = ResourceBudget(free_disk=lambda: 8 * GB, disk_floor=5 * GB, memory=MEMORY_PER_BUILD)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), budget.reserve_build(3 * GB):
            raise ZeroDivisionError


def test_an_unknown_image_is_expected_to_be_large() -> None:
    assert expected_disk(None) == UNKNOWN_IMAGE
    assert expected_disk(1000) == 1000 * GROWTH


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_builds_that_run_at_once_never_need_more_disk_than_is_free(sizes) -> None:
    budget, now, most = ResourceBudget(free_disk=lambda: 10 * GB, disk_floor=5 * GB), [0], [0]
    lock = threading.Lock()

    def go(size: int) -> None:
        with budget.reserve_build(size * GB):
            with lock:
                now[0] += size
                most[0] = max(most[0], now[0])
            with lock:
                now[0] -= size

    threads = [threading.Thread(target=go, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert most[0] <= 5
