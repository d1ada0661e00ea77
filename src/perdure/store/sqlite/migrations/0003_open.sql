-- Open executions of a function: what a deletion, a drain and a list of RUNNING look for, among however many have ended.
CREATE INDEX executions_open ON executions (function_id, execution_id) WHERE end_ms IS NULL;
