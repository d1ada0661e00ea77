-- Small documents under a kind and a key: functions, versions, aliases, deployment packages, access keys.
-- Rows of up to 60 MiB stand in a table with rowids: its index holds the keys alone, so that lists read nothing else.

CREATE TABLE records (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    revision INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;

-- The number of the last change of each kind; the highest is that of the last change of all.
CREATE TABLE record_kinds (
    kind TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
