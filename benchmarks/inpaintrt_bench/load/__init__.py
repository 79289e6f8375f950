"""Load, endurance and hostile input for a running server, from processes of their own."""
