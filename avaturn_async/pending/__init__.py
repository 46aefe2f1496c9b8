"""Pending jobs: handles on exports, renders and scans, resolved by a webhook or a poll."""
