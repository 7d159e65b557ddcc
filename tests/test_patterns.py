import string

import numpy as np
import pytest

from skvae.tabular.patterns import NumberRange, draw_codes_of, find_alphabets, find_numbered

RNG = np.random.default_rng(0)
LIMITS = (-(2**63), 2**63 - 1)


def strings(cells):
    return np.array(list(cells), dtype=object)


def test_each_place_of_a_code_has_the_characters_of_its_class():
    codes = strings(f"A{n:04d}-{'xy'[n % 2]}{n % 10}" for n in RNG.permutation(9000))
    narrow, wide = zip(*find_alphabets(codes, 5), strict=True)
    assert narrow[0] == wide[0] == "A"
    assert narrow[1] == "0123456789"[1:9] or set(narrow[1]) <= set(string.digits)
    assert wide[2] == string.digits
    assert narrow[5] == "-"
    assert (narrow[6], wide[6]) == ("xy", string.ascii_lowercase)


def test_a_character_that_few_codes_have_is_not_stored_by_itself():
    codes = strings(["aK1"] * 50 + ["aK2"] * 4)
    assert find_alphabets(codes, 5)[2] == (string.digits[1:], string.digits)
    assert find_alphabets(codes, 4)[2] == ("12", string.digits)


@pytest.mark.parametrize("cells", [["a1", "a12"], [""], ["x" * 65]])
def test_other_strings_have_no_alphabets(cells):
    assert find_alphabets(strings(cells), 1) is None


def test_drawn_codes_have_the_pattern_and_grow_if_asked_to():
    alphabets = [("C", "C"), ("1", string.digits), ("ab", "ab")]
    assert set(draw_codes_of(alphabets, 200, RNG, 0)) == {"C1a", "C1b"}
    assert len(set(draw_codes_of(alphabets, 2000, RNG, 1))) == 20
    assert {len(code) for code in draw_codes_of(alphabets, 9, RNG, 3)} == {5}


@pytest.mark.parametrize(
    ("cells", "around"),
    [
        (["P1", "P20", "P345"], ("P", "")),
        (["a1/b", "a10/b", "a177/b"], ("a", "/b")),
        (["10", "100", "1001"], ("", "")),
        (["P1", "Q2"], None),
        (["P01", "P1"], None),
        (["x 1", "x 2"], None),
        (["P1.5", "P2.5"], ("P", ".5")),
    ],
)
def test_numbers_between_a_prefix_and_a_suffix_are_found(cells, around):
    assert find_numbered(strings(cells)) == around


def test_numbers_that_count_go_on_above_the_next_power_of_ten():
    numbers = NumberRange(1, 891, 891, LIMITS)
    drawn = numbers.draw(500, RNG, 0)
    assert drawn.min() >= 1000
    assert (np.diff(drawn) == 1).all()
    assert drawn[0] != numbers.draw(500, RNG, 0)[0]


@pytest.mark.parametrize(
    ("least", "most", "low", "high"),
    [
        (123_456, 987_654, 100_000, 10**6),
        (-55_000, 99_000, -(10**5), 10**5),
        (2**60, 2**63 - 1, 10**18, 2**63 - 1),
    ],
)
def test_other_numbers_have_as_many_digits(least, most, low, high):
    drawn = NumberRange(least, most, 100, LIMITS).draw(5000, RNG, 0)
    assert low <= drawn.min() < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < drawn.max() <= high


def test_numbers_stay_within_the_dtype():
    drawn = NumberRange(0, 99, 100, (0, 255)).draw(1000, RNG, 5)
    assert drawn.min() >= 0
    assert drawn.max() <= 255
    huge = NumberRange(2**63 + 5, 2**64 - 9, 50, (0, 2**64 - 1)).draw(100, RNG, 0)
    assert huge.dtype == np.uint64
    assert huge.max() > 2**63
