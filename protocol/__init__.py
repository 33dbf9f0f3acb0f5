"""Floor 3: what crosses the wire and what both ends must read alike."""
