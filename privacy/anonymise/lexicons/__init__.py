"""Packaged word lists: plain text, one entry a line, `#` starts a comment that names the source."""
