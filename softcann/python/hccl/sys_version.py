"""The version that MindSpore compares with the one it was built for."""

__sys_version__ = "9.0.0"
