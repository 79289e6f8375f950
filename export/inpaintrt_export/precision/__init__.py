"""Networks in another precision than they were exported in, and whether their results are good enough."""
