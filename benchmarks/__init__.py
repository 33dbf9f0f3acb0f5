"""Benchmarks: each prints what the product needs beside what a peer needs, measured in the same run."""
