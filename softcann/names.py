"""Names that MindSpore looks up and that no CANN release is known to have, each with what is known about it."""

UNRELEASED = {
    "aclnnPagedAttention": "no CANN release documents it; MindSpore's infer_boost has its own kernel, and ATB",
    "aclnnReshapeAndCache": "no CANN release documents it; MindSpore's infer_boost has its own kernel, and ATB",
}
