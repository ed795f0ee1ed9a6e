"""The benchmark harness: runs workloads on runtimes in isolated invocations and reports what it measured."""

__version__ = "0.1.0"
