"""Devices, machines and the processes on them: start, replicas, clusters, preemption."""
