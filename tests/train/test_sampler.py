"""The order of samples is a pure function of seed and step."""

from llava.train.batches import sample_indices, stream_seed


def steps(count, num_samples=10, batch_size=4, seed=0):
    return [sample_indices(num_samples, batch_size, step, seed) for step in range(count)]


def test_every_epoch_is_another_permutation_and_every_batch_is_full():
    batches = steps(5)
    assert all(len(batch) == 4 for batch in batches)
    flat = sum(batches, [])
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]


def test_a_step_does_not_depend_on_those_before():
    batches = steps(9)
    assert [sample_indices(10, 4, step, 0) for step in (7, 2, 8)] == [batches[i] for i in (7, 2, 8)]
    assert steps(9, seed=1) != batches


def test_a_batch_may_hold_several_epochs():
    (batch,) = steps(1, num_samples=3, batch_size=7)
    assert sorted(batch[:3]) == sorted(batch[3:6]) == [0, 1, 2]


def test_streams_have_seeds_of_their_own():
    seeds = {stream_seed(0, name, step) for name in ("data", "forward") for step in range(100)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
