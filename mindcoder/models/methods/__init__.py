"""How linear layers keep their weight and multiply by it: one file a method."""
