"""MindFormers: classes for its registry, ``pipeline`` and ``Trainer``. Imported only on request."""
