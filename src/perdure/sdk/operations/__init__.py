"""The operations, each written once: coroutines over a driver that blocks or awaits."""
