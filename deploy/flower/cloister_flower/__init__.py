"""Cloister as a Flower app; the code is the installed one."""
