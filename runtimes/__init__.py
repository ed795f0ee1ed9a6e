"""Runtimes: engines that execute a dataflow graph, each behind the protocol of `runtimes.protocol`."""
