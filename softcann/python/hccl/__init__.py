"""Stand-in for the Python package of CANN that MindSpore asks for HCCL's version; collectives are in softcann/hccl."""
