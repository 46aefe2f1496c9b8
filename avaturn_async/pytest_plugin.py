"""Fixtures for apps built on the SDK."""
