"""Where a runner keeps its executions, under the official names: what `store=` takes beside a path and a URL."""
