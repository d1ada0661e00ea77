-- The journal, the executions it belongs to, and the indexes that lists and wake-ups need.
-- Execution ids are UUIDv7: rows that are written at one time lie beside each other.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE functions (
    function_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE executions (
    execution_id BLOB PRIMARY KEY,
    function_id INTEGER NOT NULL REFERENCES functions,
    status INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    wake_at_ms INTEGER,
    version TEXT,
    name TEXT,
    end_ms INTEGER,
    lease_owner TEXT,
    lease_epoch INTEGER NOT NULL,
    expires_at_ms INTEGER,
    operations INTEGER NOT NULL,
    invocations INTEGER NOT NULL,
    open_callbacks INTEGER NOT NULL,
    waiting_on INTEGER NOT NULL,
    error_type TEXT,
    parent TEXT
) STRICT, WITHOUT ROWID;

-- Idempotent starts.
CREATE UNIQUE INDEX executions_by_name ON executions (function_id, name) WHERE name IS NOT NULL;
-- Timers, the ready queue and crash recovery: one range scan.
CREATE INDEX executions_by_wake ON executions (wake_at_ms, function_id) WHERE wake_at_ms IS NOT NULL;
-- Lists, newest first or oldest first, of one function or of one status.
CREATE INDEX executions_by_function ON executions (function_id, execution_id);
CREATE INDEX executions_by_status ON executions (status, execution_id);
-- Retention.
CREATE INDEX executions_by_expiry ON executions (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
-- Open callbacks, over all executions.
CREATE INDEX executions_by_callback ON executions (execution_id) WHERE open_callbacks > 0;

CREATE TABLE journal (
    execution_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (execution_id, seq)
) STRICT, WITHOUT ROWID;
