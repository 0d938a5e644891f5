import re

from thalweg.prompts import open_source

EQUATION = re.compile(r"((?:\d+(?:\.\d+)? [-+x/] )+\d+(?:\.\d+)?) = (\d+(?:\.\d+)?)")


def bundled_texts():
    return [row.text or "" for row in open_source().rows()]


def test_no_data_means_the_bundled_prompts():
    named, unnamed = open_source("bundled"), open_source()
    assert (named.name, named.kind, named.hash) == (unnamed.name, unnamed.kind, unnamed.hash)
    assert (unnamed.name, unnamed.template) == ("bundled", "{text}")


def test_there_are_enough_all_different_and_of_reasonable_length():
    texts = bundled_texts()
    assert len(texts) >= 60
    assert len(set(texts)) == len(texts)
    assert all(30 <= len(text.split()) <= 150 for text in texts)


def test_their_arithmetic_is_right():
    equations = [equation for text in bundled_texts() for equation in EQUATION.findall(text)]
    assert len(equations) == sum(text.count(" = ") for text in bundled_texts()) > 60
    for left, right in equations:
        assert abs(eval(left.replace("x", "*")) - float(right)) < 1e-9, (left, right)
