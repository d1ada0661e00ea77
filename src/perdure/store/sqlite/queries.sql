-- name: commits_view
-- What one commit holds. `change` is 0 for a journal row alone, 1 if it begins an execution, 2 if it changes its row.
CREATE TEMP VIEW commits AS
SELECT
    NULL AS execution_id, NULL AS seq, NULL AS data, NULL AS change, NULL AS function_id, NULL AS status,
    NULL AS start_ms, NULL AS wake_at_ms, NULL AS version, NULL AS name, NULL AS end_ms, NULL AS lease_owner,
    NULL AS lease_epoch, NULL AS expires_at_ms, NULL AS operations, NULL AS invocations, NULL AS open_callbacks,
    NULL AS waiting_on, NULL AS error_type, NULL AS parent

-- name: commits_trigger
-- A number is given once, and only after the one before it: to a deleted execution nothing can be appended. A commit
-- that loses aborts the statement; a whole batch is one statement, and so one call that holds no lock of the interpreter.
CREATE TEMP TRIGGER commit_one INSTEAD OF INSERT ON commits
BEGIN
    SELECT RAISE(ABORT, 'lost')
    WHERE new.seq > 1
        AND NOT EXISTS (SELECT 1 FROM main.journal WHERE execution_id = new.execution_id AND seq = new.seq - 1);
    INSERT INTO executions (
        execution_id, function_id, status, start_ms, wake_at_ms, version, name, end_ms, lease_owner, lease_epoch,
        expires_at_ms, operations, invocations, open_callbacks, waiting_on, error_type, parent
    )
    SELECT
        new.execution_id, new.function_id, new.status, new.start_ms, new.wake_at_ms, new.version, new.name, new.end_ms,
        new.lease_owner, new.lease_epoch, new.expires_at_ms, new.operations, new.invocations, new.open_callbacks,
        new.waiting_on, new.error_type, new.parent
    WHERE new.change = 1;
    INSERT INTO journal (execution_id, seq, data) VALUES (new.execution_id, new.seq, new.data);
    UPDATE executions SET
        status = new.status,
        wake_at_ms = CASE -- a commit that took its time does not put back the end of a lease
            WHEN lease_owner = new.lease_owner AND lease_epoch = new.lease_epoch AND wake_at_ms > new.wake_at_ms
            THEN wake_at_ms ELSE new.wake_at_ms END,
        end_ms = new.end_ms, lease_owner = new.lease_owner, lease_epoch = new.lease_epoch, expires_at_ms = new.expires_at_ms, operations = new.operations,
        invocations = new.invocations, open_callbacks = new.open_callbacks, waiting_on = new.waiting_on,
        error_type = new.error_type
    WHERE new.change = 2 AND execution_id = new.execution_id;
    SELECT RAISE(ABORT, 'lost') WHERE new.change = 2 AND changes() = 0;
END

-- name: append_commits
INSERT INTO commits SELECT * FROM (VALUES {rows}) WHERE column2 IS NOT NULL

-- name: append_journal
INSERT INTO commits (execution_id, seq, data, change)
SELECT column1, column2, column3, 0 FROM (VALUES {rows}) WHERE column2 IS NOT NULL

-- name: append_alone
-- One journal row, which is most commits when nobody else waits: 10 µs less than by way of the view.
INSERT INTO journal (execution_id, seq, data)
SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM journal WHERE execution_id = ?1 AND seq = ?2 - 1)

-- name: read_journal
SELECT seq, data FROM journal WHERE execution_id = ? AND seq > ? ORDER BY seq LIMIT ?

-- name: row
SELECT {columns} FROM executions WHERE execution_id = ?

-- name: find
SELECT execution_id FROM executions WHERE function_id = ? AND name = ?

-- name: due
SELECT execution_id, wake_at_ms, function_id, lease_owner, lease_epoch, version
FROM executions INDEXED BY executions_by_wake
WHERE wake_at_ms <= ? {functions}
ORDER BY wake_at_ms
LIMIT ?

-- name: renew
UPDATE executions SET wake_at_ms = ? WHERE execution_id = ? AND lease_epoch = ? AND lease_owner IS NOT NULL

-- name: open_callbacks
SELECT {columns} FROM executions INDEXED BY executions_by_callback
WHERE open_callbacks > 0 AND execution_id > ? AND (expires_at_ms IS NULL OR expires_at_ms > ?)
ORDER BY execution_id
LIMIT ?

-- name: expired
SELECT execution_id FROM executions
WHERE expires_at_ms <= ? AND wake_at_ms IS NULL
ORDER BY expires_at_ms
LIMIT ?

-- name: last_seq
SELECT max(seq) FROM journal WHERE execution_id = ?

-- name: delete_journal
DELETE FROM journal WHERE execution_id = ? AND seq > ?

-- name: delete_execution
DELETE FROM executions WHERE execution_id = ?

-- name: functions
SELECT name, function_id FROM functions

-- name: insert_function
INSERT OR IGNORE INTO functions (name) VALUES (?)

-- name: get_meta
SELECT value FROM meta WHERE key = ?

-- name: set_meta
INSERT OR IGNORE INTO meta (key, value) VALUES (?, ?)

-- name: record
SELECT key, revision, data FROM records WHERE kind = ? AND key = ?

-- name: records
SELECT key, revision, data FROM records WHERE kind = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?

-- name: records_reversed
SELECT key, revision, data FROM records WHERE kind = ? AND key >= ? AND key < ? ORDER BY key DESC LIMIT ?

-- name: record_revision
SELECT revision FROM records WHERE kind = ? AND key = ?

-- name: put_record
INSERT INTO records (kind, key, revision, data) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (kind, key) DO UPDATE SET revision = ?3, data = ?4

-- name: delete_record
DELETE FROM records WHERE kind = ? AND key = ?

-- name: next_record_version
SELECT coalesce(max(version), 0) + 1 FROM record_kinds

-- name: records_version
SELECT version FROM record_kinds WHERE kind = ?

-- name: put_records_version
INSERT INTO record_kinds (kind, version) VALUES (?1, ?2) ON CONFLICT (kind) DO UPDATE SET version = ?2
