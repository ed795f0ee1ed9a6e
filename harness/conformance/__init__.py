"""The behaviour suite for runtimes, anyone's: `pytest --pyargs harness.conformance --runtime NAME`.

It runs graphs on a runtime through the public protocol (`runtimes.protocol`, `workloads.dataflow.Session`) and
checks what the contract promises: order, edges, delays, retained values, absent values, arrays, seeds, digests,
failure and clean-up. Runtimes are found by name; without `--runtime`, all that are installed are checked.
`--option KEY=VALUE`, or `--runtime NAME:key=value`, sets options.
"""
