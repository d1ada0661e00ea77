"""The ground: one bare SQLite commit of a row as a step's checkpoint makes it (WAL, synchronous=FULL)."""

import os
import sqlite3
import time
from pathlib import Path

from report import main

ROW_BYTES = 192


def sequential(folder: Path) -> dict[str, float]:
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE journal (id BLOB, seq INTEGER, data BLOB, PRIMARY KEY (id, seq)) WITHOUT ROWID")
    key, data, count = os.urandom(16), os.urandom(ROW_BYTES), 2000
    for number in range(50):
        connection.execute("INSERT INTO journal VALUES (?, ?, ?)", (b"warm", number, data))
    began = time.perf_counter()
    for number in range(count):
        connection.execute("INSERT INTO journal VALUES (?, ?, ?)", (key, number, data))
    return {"us_per_step": (time.perf_counter() - began) / count * 1e6}


if __name__ == "__main__":
    main([sequential])
