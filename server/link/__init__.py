"""The coordinator's end of the link: who may come in, and what is carried."""
