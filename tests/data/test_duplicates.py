"""Near-duplicates are those that comparing all with all finds, without comparing all with all."""

import random

import pytest

from videodit.data.duplicates import NearDuplicates


def hashes(count, seed=0):
    """Random hashes, a third of them near an earlier one."""
    draw, made = random.Random(seed), []
    for number in range(count):
        value = made[draw.randrange(number)] if number % 3 == 2 else draw.getrandbits(64)
        for _ in range(draw.randrange(12) if number % 3 == 2 else 0):
            value ^= 1 << draw.randrange(64)
        made.append(value)
    return made


@pytest.mark.parametrize("limit", [0, 1, 3, 6, 10, 63])
def test_it_finds_the_first_that_is_near_and_no_other(limit):
    near, seen = NearDuplicates(limit), []
    for number, value in enumerate(hashes(300)):
        expected = next(((f"{i}", (value ^ other).bit_count()) for i, other in seen if (value ^ other).bit_count() <= limit), None)
        assert near.first(f"{value:016x}") == expected
        near.add(f"{number}", f"{value:016x}")
        seen.append((number, value))


class Counted(list):
    """A list that counts how often one of its items is looked at."""

    looks = 0

    def __getitem__(self, place):
        self.looks += 1
        return super().__getitem__(place)


def test_few_are_compared():
    near, count = NearDuplicates(3), 100_000
    near._clips = Counted()
    for number, value in enumerate(hashes(count)):
        if near.first(f"{value:016x}") is None:
            near.add(f"{number}", f"{value:016x}")
    assert near._clips.looks < count**2 / 2 / 1000
