"""Model families: a folder for each states what differs, and every other room takes it from there.

`mindcoder.families.base.Family` is what a folder states; `mindcoder.families.registry` finds the folders. Beside them
is what describes a network without computing it: `TransformerConfig`, the fields of ``config.json``, weight names.
"""
