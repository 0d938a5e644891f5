"""One number scales how many faults are tried."""

from tests.faults import share


def test_some_of_the_faults_are_spread_over_all_of_them(monkeypatch):
    monkeypatch.setattr(share, "SHARE", 0.05)
    assert (share.times(200), share.times(3)) == (10, 1)
    assert share.some(range(100)) == [10, 30, 50, 70, 90]
    assert share.some(range(10), 60) == [1, 5, 8]
    monkeypatch.setattr(share, "SHARE", 1)
    assert share.some(range(10)) == list(range(10))
    assert share.some(range(100), 4) == [12, 37, 62, 87]
