"""Help for tests of applications: the pytest plugin."""
