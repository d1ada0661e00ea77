-- name: append_journal
-- A number is given once, and only after the one before it: to a deleted execution nothing can be appended.
INSERT OR IGNORE INTO journal (execution_id, seq, data)
SELECT ?1, ?2, ?3
WHERE ?2 = 1 OR EXISTS (SELECT 1 FROM journal WHERE execution_id = ?1 AND seq = ?2 - 1)

-- name: insert_execution
INSERT OR IGNORE INTO executions (
    execution_id, function_id, status, start_ms, wake_at_ms, version, name, end_ms, lease_owner, lease_epoch,
    expires_at_ms, operations, invocations, open_callbacks, waiting_on, error_type, parent
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: update_execution
UPDATE executions SET
    status = ?, wake_at_ms = ?, end_ms = ?, lease_owner = ?, lease_epoch = ?, expires_at_ms = ?, operations = ?,
    invocations = ?, open_callbacks = ?, waiting_on = ?, error_type = ?
WHERE execution_id = ?

-- name: read_journal
SELECT seq, data FROM journal WHERE execution_id = ? AND seq > ? ORDER BY seq LIMIT ?

-- name: row
SELECT {columns} FROM executions WHERE execution_id = ?

-- name: find
SELECT execution_id FROM executions WHERE function_id = ? AND name = ?

-- name: due
SELECT execution_id, wake_at_ms, function_id, lease_owner, lease_epoch
FROM executions
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
