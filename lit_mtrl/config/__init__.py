"""From files and overrides to one checked configuration, and from the names in it to objects."""
