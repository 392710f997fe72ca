from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.streaming.log import FORGET_EVERY, Room, StreamLog

FRAMES = st.lists(st.binary(min_size=1, max_size=20), max_size=30)


class Listener:
    """Counts how often it is woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def read_all(log: StreamLog, *, after: int = 0, limit: int = 1 << 20) -> bytes:
    body = b""
    while after < len(log):
        data, after = log.read(after, limit=limit)
        body += data
    return body


@given(frames=FRAMES, after=st.integers(0, 30), limit=st.integers(1, 50))
def test_a_reader_gets_exactly_what_follows_its_position(frames, after, limit):
    log = StreamLog()
    for frame in frames:
        log.append([frame])

    assert read_all(log, after=min(after, len(log)), limit=limit) == b"".join(frames[after:])


@given(frames=FRAMES, limit=st.integers(1, 50))
def test_no_read_tears_a_frame_or_takes_more_than_the_limit(frames, limit):
    log = StreamLog()
    log.append(frames)
    position = 0

    while position < len(log):
        data, stop = log.read(position, limit=limit)
        assert data == b"".join(frames[position:stop])
        assert len(data) <= limit or stop == position + 1
        position = stop


@given(batches=st.lists(FRAMES, max_size=40))
def test_a_log_without_memory_reads_like_one_with(batches):
    kept, forgetful = StreamLog(), StreamLog(keep=False)
    body, position = b"", 0

    for batch in batches:
        kept.append(batch)
        forgetful.append(batch)
        while position < len(forgetful):
            data, position = forgetful.read(position, limit=64)
            body += data

    assert body == read_all(kept)
    assert len(forgetful) == len(kept)


def test_a_log_without_memory_drops_what_was_read():
    room = Room(1 << 20)
    log = StreamLog(room, keep=False)

    log.append([b"0123456789"] * (FORGET_EVERY + 1))
    _, position = log.read(0, limit=1 << 20)

    assert position == FORGET_EVERY + 1
    assert room.held == 0
    assert log.size == 10 * (FORGET_EVERY + 1)


def test_appending_wakes_every_reader_once():
    log, first, second = StreamLog(), Listener(), Listener()
    log.attach(first)
    log.attach(second)

    log.append([b"a", b"b"])
    log.detach(second)
    log.append([b"c"])

    assert (first.woken, second.woken) == (2, 1)


def test_a_reader_may_leave_while_it_is_woken():
    log, other = StreamLog(), Listener()

    class Leaver:
        def wake(self) -> None:
            log.detach(self)

    log.attach(Leaver())
    log.attach(other)
    log.append([b"a"])
    log.append([b"b"])

    assert other.woken == 2


def test_nothing_follows_the_end():
    log = StreamLog()

    log.append([b"done"], last=True)

    assert log.ended
    with pytest.raises(RuntimeError, match="ended"):
        log.append([b"more"])


def test_a_log_of_a_later_part_counts_from_there():
    log = StreamLog(after=3)

    log.append([b"four"], last=True)

    assert len(log) == 4
    assert log.read(3, limit=100) == (b"four", 4)


def test_the_room_is_what_all_logs_hold_and_comes_back_once():
    room = Room(1 << 20)
    logs = [StreamLog(room), StreamLog(room)]
    for log in logs:
        log.append([b"12345"])

    assert room.held == 10
    logs[0].release()
    logs[0].release()
    assert room.held == 5


def test_a_full_room_asks_for_room():
    asked = []
    room = Room(8, make_room=lambda: asked.append(True))
    log = StreamLog(room)

    log.append([b"12345678"])
    assert (room.full, asked) == (False, [])
    log.append([b"9"])

    assert (room.full, asked) == (True, [True])
