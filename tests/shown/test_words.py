"""Numbers as people read them."""

from thalweg.shown import change, number


def test_numbers_as_words():
    assert [number(value) for value in (0.0, 0.5, 12.0, 177.3, 1e-5, float("nan"), None)] == [
        "0.000",
        "0.500",
        "12.000",
        "177",
        "1e-05",
        "-",
        "-",
    ]
    assert change(-0.0001, -0.0002, 0.0) == "+0.000 [+0.000, +0.000]"
    assert change(-1.5, float("nan"), float("nan")) == "-1.500"
    assert change(float("nan"), 0.0, 0.0) == "-"
