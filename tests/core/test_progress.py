"""Progress events are few but none that matters is lost; a stop is heard in other threads."""

import threading

import pytest

from napari_recon.errors import Cancelled
from napari_recon.progress import CancelToken, Reporter


def test_events_in_quick_succession_are_thinned_but_first_and_last_arrive():
    events = []
    reporter = Reporter(events.append, "denoise", total=500, interval=60)
    for done in range(1, 501):
        reporter.update(done)
    assert [e.done for e in events] == [1, 500]
    assert all((e.phase, e.total) == ("denoise", 500) for e in events)


def test_messages_previews_and_forced_events_are_never_dropped():
    events = []
    reporter = Reporter(events.append, "train", total=500, interval=60)
    reporter.update(1)
    reporter.update(2)
    reporter.update(3, message="smaller tiles")
    reporter.update(4, preview="picture")
    reporter.update(5, force=True, values={"loss": 0.5})
    assert [e.done for e in events] == [1, 3, 4, 5]
    assert events[1].message == "smaller tiles"
    assert events[2].preview == "picture"
    assert events[3].values == {"loss": 0.5}


def test_without_an_interval_every_event_arrives():
    events = []
    reporter = Reporter(events.append, "train", interval=0)
    for done in range(5):
        reporter.update(done)
    assert len(events) == 5


def test_time_left_follows_the_pace_falls_to_zero_and_is_unknown_without_a_total():
    events = []
    reporter = Reporter(events.append, "train", total=4, interval=0)
    for done in range(5):
        reporter.update(done)
    assert events[0].eta is None
    assert events[1].eta >= 0
    assert events[4].eta == 0
    reporter.update(2, eta=12.5)
    assert events[-1].eta == 12.5
    reporter.total = 0
    reporter.update(3)
    assert events[-1].eta is None


def test_the_values_of_an_event_do_not_change_afterwards():
    events, values = [], {"loss": 1.0}
    Reporter(events.append, "train").update(1, values=values)
    values["loss"] = 2.0
    assert events[0].values["loss"] == 1.0


def test_nobody_needs_to_listen():
    Reporter(None, "train", total=3).update(3, message="done")


def test_a_token_stops_only_after_it_was_asked_to_and_in_any_thread():
    token, started, heard = CancelToken(), threading.Event(), []

    def work():
        started.set()
        try:
            while True:
                token.raise_if_cancelled()
        except Cancelled:
            heard.append(True)

    token.raise_if_cancelled()
    assert not token.cancelled
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert started.wait(10)
    token.cancel()
    worker.join(10)
    assert heard
    assert token.cancelled
    with pytest.raises(Cancelled):
        token.raise_if_cancelled()
