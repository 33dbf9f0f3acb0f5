"""Hide the identifiers in a record's text."""
