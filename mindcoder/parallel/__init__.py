"""The mathematics of parallelism: process groups, and data, tensor, sequence and pipeline parallelism over them."""
