"""Our own tests use the contract as any user would, its report included."""

pytest_plugins = ["sqlrepo.testing.plugin"]
