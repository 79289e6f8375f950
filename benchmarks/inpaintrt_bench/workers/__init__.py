"""What runs in the process that is measured.

These modules also run in interpreters that have nothing of ours installed, beside other versions of the
libraries. They import the standard library, NumPy, Pillow and the library under test; only `ours` imports
the runtime.
"""
