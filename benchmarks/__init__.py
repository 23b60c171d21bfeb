"""What is claimed of speed, measured against named peers in the same run: ``python -m benchmarks --help``.

The scripts beside this file that are no part of the package run by themselves: ``python benchmarks/run_overhead.py``.
"""
