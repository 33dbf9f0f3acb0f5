"""Floor 4: the coordinator and its command line. Imports without torch."""
