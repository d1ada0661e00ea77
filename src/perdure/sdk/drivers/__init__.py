"""Drivers: what operations ask of the world, done by blocking a thread or by awaiting on a loop."""
