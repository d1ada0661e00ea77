"""Journals on disk and in memory, behind one protocol. A store knows values, not rules."""
