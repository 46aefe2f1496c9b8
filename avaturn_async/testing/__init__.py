"""Helpers for tests of applications: the pytest plugin, and the tests of the `Mailbox` contract."""
