"""The table of keys against a dict."""

import numpy as np
import pytest

from indexes.keys import KeyTable


@pytest.mark.parametrize("different", [1, 3, 100, 10**6, 2**64])
@pytest.mark.parametrize("recent", [1, 2, 7, 4096])
def test_the_rows_of_a_key_come_latest_first(monkeypatch, different, recent):
    monkeypatch.setattr("indexes.keys.RECENT", recent)
    rng = np.random.default_rng(1)
    keys = rng.integers(0, different, 900, np.uint64, endpoint=different < 2**64)
    keys = rng.integers(0, 2**64 - 1, 900, np.uint64) if different == 2**64 else keys
    table, model = KeyTable(), {}
    for row, key in enumerate(keys.tolist()):
        table.add(key, row)
        model.setdefault(key, []).insert(0, row)
        if row % 50 == 0:
            assert {key: list(table.rows(key)) for key in model} == model
    assert {key: list(table.rows(key)) for key in model} == model
    assert list(table.rows(2**64 - 1)) == model.get(2**64 - 1, [])
    found, rows = table.sorted()
    assert list(zip(found.tolist(), rows.tolist(), strict=True)) == sorted(
        (key, row) for key, all_rows in model.items() for row in all_rows
    )


def test_an_empty_table_has_no_rows():
    keys, rows = KeyTable().sorted()
    assert (len(keys), len(rows), list(KeyTable().rows(0))) == (0, 0, [])


def test_a_table_stays_in_few_runs_of_twelve_bytes_a_row(monkeypatch):
    monkeypatch.setattr("indexes.keys.RECENT", 16)
    table = KeyTable()
    for row, key in enumerate(np.random.default_rng(1).integers(0, 2**63, 16 * 500).tolist()):
        table.add(key, row)
    runs = table._runs
    assert len(runs) <= 10
    assert sum(keys.nbytes + rows.nbytes for keys, rows in runs) == 12 * 16 * 500
