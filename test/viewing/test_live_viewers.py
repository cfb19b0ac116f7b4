"""One viewer: the newest picture wins, losses are counted, nothing piles up."""

import asyncio

from evdistill_core.viewing.live.viewers import IN_FLIGHT, MAX_REPLIES, Viewer


async def taken(viewer):
    """What would be sent now; None if nothing would."""
    try:
        return await asyncio.wait_for(viewer.next(), 0.01)
    except asyncio.TimeoutError:
        return None


def run(test):
    asyncio.run(test())


def test_a_page_that_draws_in_time_gets_every_picture():
    async def test():
        viewer = Viewer("page")
        for i in range(20):
            viewer.offer(b"%d" % i)
            assert await taken(viewer) == b"%d" % i
            viewer.drawn()
        assert (viewer.sent, viewer.dropped) == (20, 0)

    run(test)


def test_a_page_that_does_not_draw_gets_no_more_and_then_the_newest():
    async def test():
        viewer = Viewer("page")
        sent = []
        for i in range(10):
            viewer.offer(b"%d" % i)
            if (picture := await taken(viewer)) is not None:
                sent.append(picture)
        assert sent == [b"%d" % i for i in range(IN_FLIGHT)]
        assert viewer.dropped == 10 - IN_FLIGHT - 1, "one still waits"
        viewer.drawn()
        assert await taken(viewer) == b"9"
        assert (viewer.sent, viewer.dropped) == (IN_FLIGHT + 1, 10 - IN_FLIGHT - 1)

    run(test)


def test_a_hidden_page_loses_nothing_that_counts():
    async def test():
        viewer = Viewer("page")
        viewer.offer(b"1")
        viewer.set_looks(False)
        for _ in range(5):
            viewer.offer(b"2")
        assert await taken(viewer) is None
        assert viewer.dropped == 0
        viewer.set_looks(True)
        viewer.offer(b"3")
        assert await taken(viewer) == b"3"

    run(test)


def test_answers_come_first_then_the_newest_state_of_each_kind():
    async def test():
        viewer = Viewer("page")
        viewer.offer(b"picture")
        viewer.tell("status", "old")
        viewer.tell("hello", "hello")
        viewer.tell("status", "new")
        viewer.reply("answer")
        found = [await taken(viewer) for _ in range(5)]
        assert found == ["answer", "new", "hello", b"picture", None]

    run(test)


def test_a_page_that_asks_and_never_reads_holds_little_memory():
    async def test():
        viewer = Viewer("page")
        for i in range(1000):
            viewer.reply(str(i))
            viewer.tell("status", str(i))
        texts = [text async for text in _all(viewer)]
        assert len(texts) == MAX_REPLIES + 1
        assert texts[-2] == "999"

    run(test)


async def _all(viewer):
    while (text := await taken(viewer)) is not None:
        yield text


def test_more_drawn_than_sent_lets_no_more_through():
    async def test():
        viewer = Viewer("page")
        for _ in range(50):
            viewer.drawn()
        for i in range(5):
            viewer.offer(b"%d" % i)
            await taken(viewer)
        assert viewer.sent == IN_FLIGHT

    run(test)
