"""Measuring generation as the seeds measured it."""
