"""Tests of the documentation: its pages, its examples and the app in docs/examples/studio."""
