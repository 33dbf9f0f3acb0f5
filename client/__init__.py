"""Floor 4: the site daemon, its policy and its command line."""
