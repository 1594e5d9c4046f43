"""Starts one process per device, watches them, and ends or restarts the job; on several servers together."""
