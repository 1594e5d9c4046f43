"""The ``.ckpt`` files of MindFormers: its names for each family, the files of its training, one file per rank."""
