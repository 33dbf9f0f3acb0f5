"""Floor 1: the protections, each pure: bytes and arrays in, bytes and arrays out."""
