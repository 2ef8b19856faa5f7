import torch

from llava.model.cuda import AsyncStopFlag

CPU = torch.device("cpu")


def told(flag, *values):
    found = []
    for value in values:
        flag.push(torch.tensor(value))
        found.append(flag.is_set())
    return found


def test_without_lag_each_answer_is_about_the_last_step():
    assert told(AsyncStopFlag(CPU), False, True) == [False, True]


def test_with_a_lag_the_answer_comes_so_many_steps_later():
    assert told(AsyncStopFlag(CPU, lag=1), True, False, False) == [False, True, False]
    assert told(AsyncStopFlag(CPU, lag=2), False, True, False, False) == [False] * 3 + [True]
