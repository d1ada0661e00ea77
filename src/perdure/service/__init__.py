"""Between asker and journal: load, decide, commit once, act. It owns the clock, the ids, the order of things."""
