"""Names that MindSpore looks up and that no CANN release is known to have, each with what is known about it."""

UNRELEASED = {
    "aclnnPagedAttention": "no CANN release documents it; MindSpore runs its internal kernel for infer_boost, or ATB's",
    "aclnnReshapeAndCache": "no CANN release documents it; MindSpore runs its internal kernel for infer_boost, or ATB's",
}
