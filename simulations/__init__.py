"""Floor 5: many-site federations on one machine, and their comparisons."""
