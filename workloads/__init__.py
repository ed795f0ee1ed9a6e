"""Workloads: reinforcement-learning programs written once as dataflow graphs, knowing no runtime."""
