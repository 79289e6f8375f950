"""What every HTTP interface shares: limits, keys, errors, uploads, running a job, metrics, the log."""
