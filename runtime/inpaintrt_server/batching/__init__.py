"""Step-level continuous batching: requests join and leave between the steps of one engine."""
