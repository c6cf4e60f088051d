"""Benchmark programs. They import each other as ``benchmarks.NAME``, from the checkout's root; none is installed."""
