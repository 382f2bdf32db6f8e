from __future__ import annotations

import numpy as np

from streamclust.lab import upload_output


def test_numbers_that_json_does_not_know_are_null():
    assert [upload_output._number(value) for value in (np.nan, np.inf, None, np.float32(1.5))] == [
        None,
        None,
        None,
        1.5,
    ]


def test_tables_have_the_contracts_columns_and_quote_what_needs_it():
    row = dict.fromkeys(upload_output._COLUMNS, "a") | {"stream": 'x,"y', "flags": ["clipped", "spike"]}
    text = upload_output._table([row])
    assert text.splitlines()[0] == ",".join(upload_output._COLUMNS)
    assert '"x,""y"' in text
    assert "clipped spike" in text


def test_names_of_people_run_in_no_spreadsheet():
    row = dict.fromkeys(upload_output._COLUMNS, "a") | {"name": "=cmd|' /C calc'!A0", "flags": []}
    assert "'=cmd|" in upload_output._table([row])
