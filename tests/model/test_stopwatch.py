import time

import torch

from llava.model.stopwatch import Stopwatch


def test_stages_add_up_and_keep_their_order():
    watch = Stopwatch(torch.device("cpu"))
    for name in ("b", "a", "b"):
        with watch.stage(name):
            time.sleep(0.01)
    seconds = watch.seconds()
    assert list(seconds) == ["b", "a"]
    assert seconds["b"] >= 0.02 and seconds["a"] >= 0.01


def test_a_stage_inside_another_has_its_own_time_alone():
    watch = Stopwatch(torch.device("cpu"))
    with watch.stage("outer"):
        time.sleep(0.01)
        with watch.stage("inner"):
            time.sleep(0.1)
    seconds = watch.seconds()
    assert list(seconds) == ["outer", "inner"]
    assert 0.01 <= seconds["outer"] < seconds["inner"] and seconds["inner"] >= 0.1


def test_laps_follow_each_other_without_a_gap():
    watch = Stopwatch(torch.device("cpu"))
    watch.start()
    before = time.perf_counter()
    watch.lap("one")
    time.sleep(0.01)
    watch.lap("two")
    seconds = watch.seconds()
    assert seconds["two"] >= 0.01
    assert sum(seconds.values()) <= time.perf_counter() - before + 0.01
