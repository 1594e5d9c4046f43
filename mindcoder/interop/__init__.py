"""MindFormers: classes that its registry, ``pipeline`` and ``Trainer`` accept. Imported only on request."""
