"""Who calls and what they may do: access keys, roles, policies, the gate, and the record of who did what."""
