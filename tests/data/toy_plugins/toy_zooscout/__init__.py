"""One plug-in of each kind: what docs/extend promises, in as few lines."""
