"""What the two ends of the link read alike: messages, certificates, tokens."""
