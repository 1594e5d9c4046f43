"""Measuring generation as the original MindFormers scripts measured it."""
