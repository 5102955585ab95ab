"""The contract suite: the tests that prove a repository behaves the same on every backend."""
