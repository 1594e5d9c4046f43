"""Measurements against the peers: ``make bench``. Never part of the tests."""
