"""Other forms of a bundle's networks: half precision, and fused nodes for a backend."""
