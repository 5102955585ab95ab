"""The portable half: every public method of repositories and units of work, once, for every backend."""
