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
def begin():
    """Begin something in a thread of its own; what waits until it was let in."""
    done, threads = threading.Event(), []

    def begin(book: Callable) -> Callable[[float], bool]:
        inside = threading.Event()

        def go() -> None:
            with book():
                inside.set()
                done.wait(5)

        threads.append(threading.Thread(target=go))
        threads[-1].start()
        return inside.wait

    yield begin
    done.set()
    for thread in threads:
        thread.join()


def test_more_checks_than_builds_fit_into_the_same_memory(begin) -> None:
    booking = ResourceBudget(memory=2 * MEMORY_PER_CHECK)
    with booking.check():
        assert not begin(lambda: booking.build(0))(0.1)
        assert begin(booking.check)(2)
    assert MEMORY_PER_BUILD > MEMORY_PER_CHECK


def test_who_does_not_fit_into_memory_waits_for_the_others(begin) -> None:
    waits = []
    booking = ResourceBudget(memory=MEMORY_PER_BUILD)
    with booking.build(0):
        inside = begin(lambda: booking.check(waits.append))
        assert not inside(0.1)
    assert inside(2)
    assert waits == ["waits for memory"]


def test_alone_everything_goes_on_however_little_memory_there_is() -> None:
    with ResourceBudget(memory=1).build(0):
        pass


def test_a_number_of_jobs_that_the_user_chose_is_not_second_guessed() -> None:
    booking = ResourceBudget(memory=None)
    with booking.build(0), booking.build(0), booking.build(0):
        pass


def test_a_build_for_which_there_is_no_disk_says_what_is_needed_what_is_free_and_what_to_do() -> None:
    booking = ResourceBudget(free=lambda: 6 * GB, floor=5 * GB)
    said = r"7 GB are needed.*6 GB are free.*docker system df.*--disk-floor"
    with pytest.raises(DiskFullError, match=said), booking.build(2 * GB):
        pass


def test_what_other_builds_are_expected_to_take_counts_and_their_end_lets_the_next_in(begin) -> None:
    booking = ResourceBudget(free=lambda: 9 * GB, floor=5 * GB)
    waits = []
    with booking.build(2 * GB):
        inside = begin(lambda: booking.build(3 * GB, waits.append))
        assert not inside(0.1)
    assert inside(2)
    assert waits == ["waits for disk: 10 GB are needed, 9 GB are free"]


def test_a_check_needs_no_disk() -> None:
    with ResourceBudget(free=lambda: 0).check():
        pass


def test_where_nobody_knows_how_much_disk_there_is_builds_go_on() -> None:
    with ResourceBudget(free=lambda: None).build(10**15):
        pass


def test_before_a_build_fails_for_disk_our_own_things_go_in_order_and_no_further_than_needed() -> None:
    free, asked = [4 * GB], []

    def relief(name: str, gain: int) -> Callable[[int], list[str]]:
        def relieve(wanted: int) -> list[str]:
            asked.append((name, wanted))
            free[0] += gain
            return [f"removed {name}"]

        return relieve

    reliefs = (relief("leavings", GB), relief("cache", 3 * GB), relief("more", GB))
    booking = ResourceBudget(free=lambda: free[0], floor=5 * GB, reliefs=reliefs)
    with booking.build(2 * GB):
        assert asked == [("leavings", 3 * GB), ("cache", 2 * GB)]
    assert booking.notes == ["removed leavings", "removed cache"]


def test_room_is_made_once_while_others_build_and_once_more_when_they_have_ended(begin) -> None:
    asked = []
    booking = ResourceBudget(free=lambda: 8 * GB, floor=5 * GB, reliefs=(lambda wanted: asked.append(wanted) or [],))
    failed = threading.Event()

    def try_it() -> None:
        try:
            with booking.build(4 * GB):
                pass
        except DiskFullError:
            failed.set()

    with booking.build(GB):
        thread = threading.Thread(target=try_it)
        thread.start()
        assert not failed.wait(0.25)
        assert asked == [2 * GB]
    assert failed.wait(2)
    thread.join()
    assert asked == [2 * GB, GB]


def test_a_stopped_run_waits_for_nothing() -> None:
    stop = Stop()
    stop.set()
    with ResourceBudget(free=lambda: 0, stop=stop).build(GB):
        pass


def test_what_failed_gives_its_room_back() -> None:
    booking = ResourceBudget(free=lambda: 8 * GB, floor=5 * GB, memory=MEMORY_PER_BUILD)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), booking.build(3 * GB):
            raise ZeroDivisionError


def test_an_unknown_image_is_expected_to_be_large() -> None:
    assert expected_disk(None) == UNKNOWN_IMAGE
    assert expected_disk(1000) == 1000 * GROWTH


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_what_goes_on_at_once_never_needs_more_than_there_is(sizes) -> None:
    booking, now, most = ResourceBudget(free=lambda: 10 * GB, floor=5 * GB), [0], [0]
    lock = threading.Lock()

    def go(size: int) -> None:
        with booking.build(size * GB):
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
