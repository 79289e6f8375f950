"""Reports of measurements: their layout, their files, and how they become tables and plots."""
